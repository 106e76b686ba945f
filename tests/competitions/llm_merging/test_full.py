"""llm-merging's full tier, from a model hub on this machine to a score on test."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import mlrcbench
from mlrcbench.catalog.competition import Competition
from mlrcbench.cli import main
from mlrcbench.competitions.llm_merging import full, scorer_full
from mlrcbench.errors import DataError
from tests.competitions.conftest import play_starter, run_conversion
from tests.competitions.llm_merging import llama
from tests.sources.server import COMMIT, TOKEN, Server, serving

KNOWN = "known_questions.json"
ANSWER = 16  # tokens of a written answer


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the sets of questions small."""
    for name, count in zip(("TINY", "TEST", "SHOWN"), llama.SIZES, strict=True):
        monkeypatch.setattr(full, name, count)


def convert(raw: Path, target: Path) -> Path:
    """Run the conversion by itself."""
    return run_conversion(full, raw, target)


def read(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text("utf-8"))


@pytest.mark.usefixtures("small")
class TestConvert:
    """Questions and models."""

    def test_questions(self, tmp_path: Path) -> None:
        """Dev has the tiny sets; test and published questions are others; file order does not matter."""
        made = convert(llama.write_raw(tmp_path / "raw"), tmp_path / "made")
        asked = {split: read(made / f"private/{split}/answers/questions.json") for split in ("dev", "test")}
        known = read(made / "public" / KNOWN)
        assert [asked["dev"]["normalised"], asked["test"]["normalised"]] == [True, False]
        for part in full.FILES:
            groups = [asked["dev"]["parts"][part], asked["test"]["parts"][part], known["parts"][part]]
            assert tuple(map(len, groups)) == llama.SIZES
            texts = [json.dumps(question) for group in groups for question in group]
            assert len(set(texts)) == sum(llama.SIZES)
        before = {part: asked["test"]["parts"][part] for part in full.FILES}
        table = tmp_path / "raw" / "arc" / llama.file_of(full.FILES["arc"])
        llama.write_table(
            table, [llama.row("arc", number) for number in reversed(range(sum(llama.SIZES) + 1))]
        )
        again = convert(tmp_path / "raw", tmp_path / "again")
        assert read(again / "private/test/answers/questions.json")["parts"] == before

    def test_prompts(self) -> None:
        """The prompts of each part are right, word for word."""
        arc = full.PROMPTS["arc"](llama.row("arc", 5))
        asked = "Question: Which number is it, 5?\nAnswer:"
        assert arc["choices"][:2] == [[asked, " the number 5"], [asked, " another number"]]
        assert arc["answer"] == 1
        swag = {
            **llama.row("hellaswag", 2),
            "ctx_a": "[header] How to count [title] Take  two.",
            "ctx_b": "then",
        }
        context = "Counting: How to count. Take two. Then"
        assert full.PROMPTS["hellaswag"](swag)["choices"][2] == [context, " none"]
        mmlu = full.PROMPTS["mmlu"](llama.row("mmlu", 3))
        lines = "A. the number 3\nB. another number\nC. none\nD. all of them\nAnswer:"
        assert mmlu["choices"][3] == [f"Which number is it, 3?\n{lines}", " D"]
        wino = full.PROMPTS["winogrande"](llama.row("winogrande", 1))
        assert wino["answer"] == 1
        assert [context[-8:] for context, _ in wino["choices"]] == [" the cup", " the box"]
        assert {continuation for _, continuation in wino["choices"]} == {" was too small."}
        assert full.PROMPTS["gsm8k"](llama.row("gsm8k", 11))["answer"] == "1012"

    def test_worked_examples(self, tmp_path: Path) -> None:
        """The same four examples of the training part precede every question of GSM8K."""
        made = convert(llama.write_raw(tmp_path / "raw"), tmp_path / "made")
        contexts = [
            question["context"]
            for question in read(made / "private/dev/answers/questions.json")["parts"]["gsm8k"]
        ]
        heads = {context.rpartition("Question:")[0] for context in contexts}
        assert len(heads) == 1
        head = heads.pop()
        assert head.count("Question:") == head.count("####") == full.EXAMPLES == 4
        assert all(f"it, {number}?" not in head for number in range(sum(llama.SIZES) + 1))

    def test_weights_are_not_copied(self, tmp_path: Path) -> None:
        """Weights that everybody may read are linked; the base model is also an expert, and stored once."""
        raw = llama.write_raw(tmp_path / "raw")
        for path in raw.rglob("*.safetensors"):
            path.chmod(0o644)
        made = convert(raw, tmp_path / "made")
        models = read(made / "private/test/inputs/models.json")
        assert models["experts"] == ["models/instruct-v08", "models/refueled"]
        assert models["base"] == "models/instruct-v08"
        for name in full.MODELS:
            shards = sorted((raw / name).glob("*.safetensors"))
            assert len(shards) == 2
            for path in shards:
                assert (made / "public/models" / name / path.name).stat().st_ino == path.stat().st_ino

    def test_one_file_without_index(self, tmp_path: Path) -> None:
        """Small checkpoints have no index; an expert may have another dtype."""
        raw = llama.write_raw(tmp_path / "raw")
        for path in [*(raw / "refueled").glob("*.safetensors"), raw / "refueled" / full.INDEX]:
            path.unlink()
        other = llama.weights(dtype=torch.float16)
        save_file(other, raw / "refueled" / "model.safetensors")
        made = convert(raw, tmp_path / "made")
        assert (made / "public/models/refueled/model.safetensors").exists()
        layout = read(made / "private/test/answers/layout.json")
        assert {dtype for dtype, _ in layout.values()} == {"BF16"}


def _index(folder: Path, change: Callable[[dict[str, str]], object]) -> None:
    index = read(folder / full.INDEX)
    change(index["weight_map"])
    (folder / full.INDEX).write_text(json.dumps(index))


def _outside(folder: Path) -> None:
    shutil.copyfile(folder / "model-00002-of-00002.safetensors", folder.parent / "elsewhere.safetensors")
    _index(folder, lambda places: places.update({"lm_head.weight": "../elsewhere.safetensors"}))


def _other_shape(folder: Path) -> None:
    config = {**llama.CONFIG, "intermediate_size": 64}
    for path in [*folder.glob("*.safetensors"), folder / full.INDEX]:
        path.unlink()
    save_file(llama.weights(config), folder / "model.safetensors")


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _config(folder: Path, **change: Any) -> None:
    (folder / "config.json").write_text(json.dumps({**llama.CONFIG, **change}))


def _many_words(folder: Path) -> None:
    llama.tokenizer(400).save(str(folder / "tokenizer.json"))


MODEL_FAULTS: list[tuple[Callable[[Path], object], str]] = [
    (
        lambda f: (f / "model-00002-of-00002.safetensors").unlink(),
        "names 'model-00002-of-00002.safetensors', which",
    ),
    (_outside, r"names '\.\./elsewhere\.safetensors', which is not next to it"),
    (
        lambda f: _index(f, lambda places: places.pop("lm_head.weight")),
        "does not hold what .* says \\(lm_head",
    ),
    (lambda f: (f / full.INDEX).write_text("[]"), "does not hold a JSON object"),
    (lambda f: (f / full.INDEX).write_text("{}"), "has no 'weight_map'"),
    (lambda f: _half(f / "model-00001-of-00002.safetensors"), "is damaged .*get it again"),
    (lambda f: (f / "config.json").unlink(), r"exactly one file config\.json; it holds none"),
]
BASE_FAULTS: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: _config(f, model_type="gpt2"), "is a 'gpt2' model"),
    (lambda f: _config(f, hidden_size=64), "is not that of its weights"),
    (lambda f: _config(f, num_attention_heads="many"), "cannot be used"),
    (lambda f: _half(f / "config.json"), "is not valid JSON"),
    (lambda f: _half(f / "tokenizer.json"), "cannot be used"),
    (_many_words, "has [0-9]+ words, too many for the model"),
    (_other_shape, "refueled and instruct-v08 differ in model.layers.0.mlp.down_proj.weight and 5 others"),
]


@pytest.mark.usefixtures("small")
class TestWrong:
    """An error names the faulty file, and says what to do."""

    @pytest.mark.parametrize(
        ("name", "change", "reason"),
        [
            *(("refueled", change, reason) for change, reason in MODEL_FAULTS),
            *(("instruct-v08", change, reason) for change, reason in BASE_FAULTS),
        ],
    )
    def test_models(self, tmp_path: Path, name: str, change: Callable[[Path], object], reason: str) -> None:
        """Missing, damaged and contradictory files of models are refused."""
        raw = llama.write_raw(tmp_path / "raw")
        change(raw / name)
        with pytest.raises(DataError, match=reason):
            convert(raw, tmp_path / "made")

    @pytest.mark.parametrize(
        ("part", "change", "reason"),
        [
            ("arc", {"answerKey": "E"}, "row 3 of arc is not as published .*get it again"),
            ("arc", {"question": None}, "row 3 of arc"),
            ("hellaswag", {"label": ""}, "row 3 of hellaswag"),
            ("mmlu", {"answer": 4}, "row 3 of mmlu .*no such choice"),
            ("mmlu", {"choices": ["one"]}, "row 3 of mmlu"),
            ("truthfulqa", {"mc1_targets": {"choices": ["a", "b"], "labels": [0, 0]}}, "not one true answer"),
            ("winogrande", {"sentence": "There is no gap."}, "row 3 of winogrande"),  # prose: ok
            ("gsm8k", {"answer": "It is four."}, "row 3 of gsm8k"),
            ("gsm8k", {"answer": "#### NaN"}, "the answer is NaN"),
        ],
    )
    def test_rows(self, tmp_path: Path, part: str, change: dict[str, Any], reason: str) -> None:
        """A row with an impossible value is refused."""
        rows = [llama.row(part, number) for number in range(5)]
        rows[3] = {**rows[3], **change}
        with pytest.raises(DataError, match=reason):
            full.ask(part, rows, _examples(tmp_path))

    def test_a_column_is_missing(self, tmp_path: Path) -> None:
        """The error names the missing column."""
        llama.write_table(tmp_path / "winogrande_xl/validation-0.parquet", [{"sentence": "a _ b"}])
        table = full.rows(tmp_path, full.FILES["winogrande"])
        with pytest.raises(DataError, match="KeyError: 'option1'"):
            full.ask("winogrande", table, tmp_path)

    @pytest.mark.parametrize(
        ("source", "count", "reason"),
        [
            ("tiny-mmlu", range(2, 5), "tiny-mmlu has 3 questions; it must have 4"),
            ("tiny-mmlu", range(50, 54), "only 0 questions of tiny-mmlu are in mmlu"),
            ("mmlu", range(8), "mmlu has 4 questions besides those of dev; 7 are needed"),
        ],
    )
    def test_tables(self, tmp_path: Path, source: str, count: range, reason: str) -> None:
        """A table that is too short, or of another data set, is refused."""
        raw = llama.write_raw(tmp_path / "raw")
        path = raw / source / llama.file_of(full.FILES["mmlu"])
        llama.write_table(path, [llama.row("mmlu", number) for number in count])
        with pytest.raises(DataError, match=reason):
            full.draw(raw, "mmlu")
        _half(path)
        with pytest.raises(DataError, match=r"parquet cannot be read .*get it again"):
            full.draw(raw, "mmlu")
        path.unlink()
        with pytest.raises(DataError, match="exactly one file all/test"):
            full.draw(raw, "mmlu")


def _examples(folder: Path) -> Path:
    llama.write_table(folder / "gsm8k" / llama.file_of(full.GSM8K_TRAIN), [llama.row("gsm8k", 100)])
    return folder


def on_a_hub(server: Server, raw: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Competition:
    """The shipped competition with few questions and small files, and its sources on the local server."""
    original = mlrcbench.get_competition("llm-merging")
    shutil.copytree(original.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    sizes = ", ".join(map(str, llama.SIZES))
    changes = [
        ("full.py", "TINY, TEST, SHOWN = 100, 200, 20", f"TINY, TEST, SHOWN = {sizes}"),
        ("starter_full/main.py", "SHARD_BYTES = 1_060_000_000", "SHARD_BYTES = 24_000"),
        (
            "starter_full/model.py",
            "ANSWER_TOKENS = 8192, 32768, 256",
            f"ANSWER_TOKENS = 8192, 32768, {ANSWER}",
        ),
        ("scorer_full.py", "ANSWER_TOKENS = 256", f"ANSWER_TOKENS = {ANSWER}"),
    ]
    sources = original.card.tier("full").sources
    for name in full.MODELS:
        changes.append(("card.toml", sources[name].revision, COMMIT))
        server.gated.add(f"models/{sources[name].repository}")
    for file, long, short in changes:
        text = (folder / file).read_text()
        assert text.count(long) == 1
        (folder / file).write_text(text.replace(long, short))
    for name, source in sources.items():
        files = {
            str(path.relative_to(raw / name)): path.read_bytes()
            for path in (raw / name).rglob("*")
            if path.is_file()
        }
        extra = {"README.md": b"#", "pytorch_model.bin": b"pickled"}
        server.repositories[f"{source.repository_kind}s/{source.repository}"] = {**files, **extra}
    changed = Competition(folder)
    for name in ("mlrcbench.cli", "mlrcbench"):
        monkeypatch.setattr(f"{name}.get_competition", lambda _: changed, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr(scorer_full, "ANSWER_TOKENS", ANSWER)
    return changed


@pytest.mark.slow
def test_from_a_hub_to_a_score(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prepares the tier once there is a token; the starter's average is judged correctly."""
    raw = llama.write_raw(tmp_path / "raw")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    with serving() as server:
        changed = on_a_hub(server, raw, tmp_path / "llm_merging", monkeypatch)
        prepare = ["prepare", changed.id, "--tier", "full", "--quiet", "--cache", str(tmp_path / "cache")]
        monkeypatch.setenv("HF_TOKEN", "")
        assert main(prepare) == 2
        message = capsys.readouterr().err
        assert "Accept the licence" in message
        assert "Traceback" not in message
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert main(prepare) == 0, capsys.readouterr().err
        assert not any("pytorch_model" in path for path in server.seen)
    assert main(prepare) == 0  # no server any more
    instance = changed.instance(0, "full")
    files = [path for path in (*tmp_path.glob("cache/**/*"), *instance.root.rglob("*")) if path.is_file()]
    assert not any(TOKEN.encode() in path.read_bytes() for path in files)
    score = play_starter(changed, fresh / "records", monkeypatch)
    assert set(score.details) == set(full.FILES)
    merged = sorted(fresh.rglob("merged-*.safetensors"))
    assert len(merged) > 3
    one, two = (llama.weights(seed=seed) for seed in (0, 1))
    for path in merged:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                assert torch.equal(file.get_tensor(name), torch.stack([one[name], two[name]]).mean(0))
    assert score.value == scorer_full.score(merged[0].parent, instance.answers("test")).value
    with llama.starter(changed.folder, instance.public, tmp_path / "workspace", monkeypatch) as (
        entry,
        model,
    ):
        entry.experiment()
        output = capsys.readouterr().out
        judge = model.Judge(model.load("data", model.Checkpoint(merged[0].parent)), "data")
        assert judge.parts(read(instance.answers("test") / "questions.json")) == score.details
    assert re.search(r"expert 0: score .*\nexpert 1: score .*\nmerged: score ", output)


def test_the_card() -> None:
    """Sources are two models at fixed commits, and two tables of each part."""
    tier = mlrcbench.get_competition("llm-merging").card.tier("full")
    assert set(tier.sources) == {*full.MODELS, *full.FILES, *(f"tiny-{part}" for part in full.FILES)}
    for name, source in tier.sources.items():
        if name in full.MODELS:
            assert len(source.revision) == 40
            assert source.variable == "HF_TOKEN"
        else:
            pattern = full.FILES[name.removeprefix("tiny-")]
            assert source.layout[0] == pattern
            assert source.patterns[0].endswith(pattern)
            assert not source.variable
    (shards,) = tier.artefacts
    assert shards.pattern == scorer_full.FILES
    largest = 128_256 * 4096 * 2  # an embedding of the real models, bytes
    assert largest < 1_060_000_000 < shards.max_bytes
    assert shards.max_files * shards.max_bytes <= tier.limits.workspace_mb << 20
