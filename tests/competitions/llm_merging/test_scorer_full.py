"""llm-merging, the full tier's scorer: likelihoods and numbers worked by hand, and invalid submissions."""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mlrcbench.competitions.llm_merging import scorer_full
from mlrcbench.errors import SubmissionError
from tests.competitions.llm_merging import llama

# A model whose logits depend only on the last character: blocks of zeros, an embedding of ones and zeros.
WIDE, EPSILON = 260, 1e-5
BYTES: dict[str, Any] = {
    **llama.CONFIG,
    "hidden_size": WIDE,
    "intermediate_size": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 1,
    "rms_norm_eps": EPSILON,
    "torch_dtype": "float32",
    "vocab_size": 258,
}
ALPHABET = llama.tokenizer(258, start=False)


def write_bigrams(folder: Path, table: dict[str, float]) -> None:
    """Write weights in two shards; `table` has the logit of a pair's second character after its first."""
    made = {name: torch.zeros_like(x) for name, x in llama.weights(BYTES, dtype=torch.float32).items()}
    made["model.embed_tokens.weight"] = torch.eye(258, WIDE)
    made["model.norm.weight"] = torch.ones(WIDE)
    for pair, logit in table.items():
        first, second = (ALPHABET.encode(one).ids[0] if one != "\0" else 1 for one in pair)
        made["lm_head.weight"][second, first] = logit * math.sqrt(1 / WIDE + EPSILON)
    folder.mkdir()
    names = sorted(made)
    save_file({name: made[name] for name in names[:4]}, folder / "merged-00000.safetensors")
    save_file({name: made[name] for name in names[4:]}, folder / "merged-00001.safetensors")


def write_answers(folder: Path, parts: dict[str, Any], *, normalised: bool) -> None:
    """Write the answers of a split."""
    folder.mkdir()
    made = llama.weights(BYTES, dtype=torch.float32)
    layout = {name: ("F32", list(tensor.shape)) for name, tensor in made.items()}
    asked = {"normalised": normalised, "parts": parts}
    for name, value in (("config", BYTES), ("layout", layout), ("questions", asked)):
        (folder / f"{name}.json").write_text(json.dumps(value))
    ALPHABET.save(str(folder / "tokenizer.json"))


def judge_of(folder: Path, table: dict[str, float]) -> scorer_full.Judge:
    """The judge of a model with these pairs of characters."""
    write_bigrams(folder, table)
    layout = {name: ("F32", tuple(x.shape)) for name, x in llama.weights(BYTES).items()}
    places = scorer_full.check(sorted(folder.glob(scorer_full.FILES)), layout)
    model = scorer_full.load(BYTES, layout, places, "cpu")
    return scorer_full.Judge(model, ALPHABET)


def chance(logit: float) -> float:
    """The log-probability of a character with this logit, if the other 257 have logit 0."""
    return logit - math.log(math.exp(logit) + 257)


class TestLikelihood:
    """Log-probabilities, and the answers that follow from them."""

    def test_by_hand(self, tmp_path: Path) -> None:
        """Only the continuation counts; a space at the context's end belongs to the continuation."""
        judge = judge_of(tmp_path / "model", {"ab": 5, "b ": 2, " c": 3})
        totals = judge.log_likelihoods([("a", "b"), ("xa", "b c"), ("ab", " c"), ("ab ", "c"), ("c", "a")])
        space = chance(2) + chance(3)
        expected = [chance(5), chance(5) + space, space, space, -math.log(258)]
        assert totals == pytest.approx(expected, abs=1e-5)

    def test_batches_change_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Batches of any size give the same as transformers gives one by one and without padding."""
        folder = tmp_path / "model"
        folder.mkdir()
        config = {**llama.CONFIG, "torch_dtype": "float32"}
        made = llama.weights(config, dtype=torch.float32)
        save_file(made, folder / "merged-0.safetensors")
        layout = {name: ("F32", tuple(x.shape)) for name, x in made.items()}
        places = scorer_full.check(list(folder.iterdir()), layout)
        model = scorer_full.load(config, layout, places, "cpu")
        words = llama.tokenizer()
        pairs = [("Which " * n, f"number is it, {n}" * (1 + n % 3)) for n in range(1, 12)]
        expected = []
        for context, continuation in pairs:
            ids = words.encode(context + continuation).ids
            start = len(words.encode(context.rstrip()).ids)
            chances = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            expected.append(sum(float(chances[place - 1, ids[place]]) for place in range(start, len(ids))))
        for tokens in (50, 200, 10_000):
            monkeypatch.setattr(scorer_full, "READ_TOKENS", tokens)
            totals = scorer_full.Judge(model, words).log_likelihoods(pairs)
            assert totals == pytest.approx(expected, rel=1e-4)

    def test_normalised(self, tmp_path: Path) -> None:
        """With division by bytes, without the space, the long answer wins; without division it loses."""
        judge = judge_of(tmp_path / "model", {": ": 20, " x": 9, " y": 9, "yy": 9})
        question = {"choices": [["q:", " x"], ["q:", " yyyy"]], "answer": 1}
        short, long = judge.log_likelihoods([("q:", " x"), ("q:", " yyyy")])
        assert short > long
        assert long / 4 > short
        assert judge.accuracy([question], normalised=True) == 1
        assert judge.accuracy([question], normalised=False) == 0

    def test_bytes_not_characters(self, tmp_path: Path) -> None:
        """A letter with an accent counts as two bytes."""
        judge = judge_of(tmp_path / "model", {})
        pairs = [("a", "e"), ("a", "é")]
        one, two = judge.log_likelihoods(pairs)
        assert two == pytest.approx(2 * one)
        tie = {"choices": [list(pair) for pair in pairs], "answer": 1}
        assert judge.accuracy([tie], normalised=False) == 0

    @pytest.mark.parametrize(
        ("values", "answer", "expected"),
        [([-1, -2], 0, True), ([-1, -2], 1, False), ([-1, -1], 0, False), ([-3, -1, -1], 0, False)],
    )
    def test_a_tie_counts_as_wrong(self, values: list[float], answer: int, expected: bool) -> None:
        """An answer is right only if every other value is smaller."""
        assert scorer_full.is_best(values, answer) is expected


class TestNumbers:
    """Answers that are written text."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("She has 3 + 4 = 7 apples.", "7"),
            ("#### 1,250", "1250"),
            ("It costs $1,250.50.", "1250.5"),
            ("-5", "-5"),
            ("from 10 to -$3", "-3"),
            ("18.00", "18"),
            ("about .5", "0.5"),
            ("12, then nothing", "12"),
            ("no number", None),
            ("", None),
            ("... $ , -", None),
        ],
    )
    def test_the_last_number(self, text: str, expected: str | None) -> None:
        """The last number is compared as a number, not as text."""
        assert scorer_full.last_number(text) == (None if expected is None else Decimal(expected))

    def test_written(self, tmp_path: Path) -> None:
        """A text is greedy, and ends at the end token or before the next question that the model invents."""
        table = {":4": 9.0, "42": 9, "2\0": 9, "?7": 9, "7Q": 9}
        table |= {a + b: 9 for a, b in zip("Question", "uestion:", strict=True)}
        judge = judge_of(tmp_path / "model", table)
        assert judge.write(["a:", "longer?"]) == ["42", "7"]
        asked = [{"context": "a:", "answer": "42"}, {"context": "b?", "answer": "7.0"}]
        wrong = {"context": "a:", "answer": "4"}
        assert judge.accuracy([*asked, wrong], normalised=True) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [([3, 5, 4], [[1, 2], [0]]), ([10, 1], [[0], [1]]), ([2] * 5, [[0, 1, 2, 3, 4]]), ([], [])],
)
def test_batches(lengths: list[int], expected: list[list[int]]) -> None:
    """Rows come longest first, at most ten tokens in a batch; a text of ten tokens has its own batch."""
    assert list(scorer_full.batches(lengths, 10)) == expected


PARTS = {
    "choices": [
        {"choices": [["q:", " x"], ["q:", " yyyy"]], "answer": 1},
        {"choices": [["q:", " x"], ["q:", " z"]], "answer": 0},
    ],
    "numbers": [{"context": "a=", "answer": "8"}],
}
TABLE = {": ": 20.0, " x": 9, " y": 9, "yy": 9, "=8": 9, "8\0": 9}


@pytest.mark.parametrize(("normalised", "expected"), [(True, 1.0), (False, 0.5)])
def test_a_score(tmp_path: Path, normalised: bool, expected: float) -> None:
    """A score is the mean of the parts, which are in the details."""
    write_bigrams(tmp_path / "artefacts", TABLE)
    write_answers(tmp_path / "answers", PARTS, normalised=normalised)
    score = scorer_full.score(tmp_path / "artefacts", tmp_path / "answers")
    assert score.details == {"choices": expected, "numbers": 1.0}
    assert score.value == (expected + 1) / 2


Change = Callable[[dict[str, torch.Tensor]], object]
HEAD = "lm_head.weight"


def _first(change: Change) -> Callable[[Path], None]:
    """Change the tensors of the first shard."""

    def apply(folder: Path) -> None:
        path = folder / "merged-00000.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return apply


def _header(raw: bytes) -> Callable[[Path], None]:
    """Replace the first shard by another header."""

    def apply(folder: Path) -> None:
        (folder / "merged-00000.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw)

    return apply


def _huge_length(folder: Path) -> None:
    with (folder / "merged-00000.safetensors").open("r+b") as file:
        file.write(struct.pack("<Q", 1 << 62))


def _huge_header(folder: Path) -> None:
    (folder / "merged-00000.safetensors").write_bytes(struct.pack("<Q", 17 << 20) + b" " * (18 << 20))


FAULTS: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: (f / "merged-00001.safetensors").unlink(), r"^8 tensors are missing in merged-\*"),
    (shutil.rmtree, "^12 tensors are missing"),
    (
        _first(lambda x: x.update({HEAD: x[HEAD][:-1].clone()})),
        r"'lm_head.weight' is F32 \(257, 260\); it must be",
    ),
    (
        _first(lambda x: x.update({HEAD: x[HEAD].bfloat16()})),
        r"is BF16 \(258, 260\); it must be F32 \(258, 260\)",
    ),
    (_first(lambda x: x.update({HEAD: x[HEAD].double()})), "is F64"),
    (_first(lambda x: x.update({HEAD: x[HEAD].to(torch.float8_e4m3fn)})), "header is malformed"),
    (_first(lambda x: x.update({"extra": torch.zeros(1)})), "holds 'extra', which the base model does not"),
    (_first(lambda x: x.pop(HEAD)), "^1 tensors are missing .*lm_head.weight"),
    (_first(lambda x: x[HEAD].__setitem__((0, 0), math.nan)), "'lm_head.weight' contains NaN or infinity"),
    (_first(lambda x: x[HEAD].__setitem__((0, 0), -math.inf)), "'lm_head.weight' contains NaN or infinity"),
    (_first(lambda x: x[HEAD].fill_(3e38)), "answers with NaN or infinity"),
    (
        lambda f: (f / "merged-2.safetensors").write_bytes((f / "merged-00000.safetensors").read_bytes()),
        "is in merged-00000.safetensors and in merged-2.safetensors; write it once",
    ),
    (lambda f: (f / "merged-00000.safetensors").write_bytes(b""), "is not a safetensors file"),
    (
        lambda f: (f / "merged-00000.safetensors").write_bytes(b"\x80\x04pickle, not weights"),
        "is not a safet",
    ),
    (_huge_length, "header length is"),
    (_huge_header, "header length is"),
    (_header(b"[" * 1000), "nests too deep"),
    (_header(b'{"a": 1}'), "header is malformed"),
    (_header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'), "not 4"),
    (_header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}'), "header is malformed"),
]


@pytest.mark.parametrize(("change", "reason"), FAULTS)
def test_refused(tmp_path: Path, change: Callable[[Path], object], reason: str) -> None:
    """Weights that do not have the base model's architecture are refused with a precise reason."""
    write_bigrams(tmp_path / "artefacts", TABLE)
    write_answers(tmp_path / "answers", PARTS, normalised=True)
    change(tmp_path / "artefacts")
    with pytest.raises(SubmissionError, match=reason):
        scorer_full.score(tmp_path / "artefacts", tmp_path / "answers")


def test_nothing_but_weights_is_read(tmp_path: Path) -> None:
    """An index, a configuration, a tokenizer or code next to the shards changes nothing."""
    write_bigrams(tmp_path / "artefacts", TABLE)
    write_answers(tmp_path / "answers", PARTS, normalised=True)
    expected = scorer_full.score(tmp_path / "artefacts", tmp_path / "answers")
    stray = {
        "model.safetensors.index.json": '{"weight_map": {"lm_head.weight": "../answers/questions.json"}}',
        "config.json": '{"auto_map": {"AutoModelForCausalLM": "modeling.Model"}, "model_type": "llama"}',
        "modeling.py": "raise SystemExit(3)",
        "tokenizer.json": "{}",
        "generation_config.json": '{"max_new_tokens": 1}',
    }
    for name, text in stray.items():
        (tmp_path / "artefacts" / name).write_text(text)
    assert scorer_full.score(tmp_path / "artefacts", tmp_path / "answers") == expected
