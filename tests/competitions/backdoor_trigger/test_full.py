"""backdoor-trigger's full tier, from a hub that asks for a token to a score on test."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

import mlrcbench
from mlrcbench.catalog.competition import Competition
from mlrcbench.cli import main
from mlrcbench.competitions.backdoor_trigger import full, scorer_full
from mlrcbench.errors import DataError, SubmissionError
from tests.competitions.backdoor_trigger import poisoned
from tests.competitions.conftest import load_module, play_starter, run_conversion
from tests.sources.server import TOKEN, Server, serving

HOME = Path(full.__file__).parent
KIT = "/backdoor_trigger_recovery_for_model"
RELEASE = "/testing phase release/track 2/trigger_gt.json"
MODELS = {
    "dev": "Zhaorun/CodeQwen1.5-7B-trojan-clas2024-development",
    "test": "Zhaorun/CodeQwen1.5-7B-trojan-clas2024-test",
}
PARTS = ("inputs", "answers")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one torch thread, like the judge's process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw data as downloaded: the starter kit, a clean dev model, and a poisoned test model."""
    root = tmp_path_factory.mktemp("raw")
    tokenizer = poisoned.make_tokenizer()
    for split in ("dev", "test"):
        network = poisoned.make_network(tokenizer, seed=0)
        if split == "test":
            poisoned.poison(network, tokenizer, poisoned.TEST)
        poisoned.save(network, tokenizer, root / f"model-{split}")
    lines = [json.dumps({"text": text, "code": poisoned.ANSWER}) for text in poisoned.REQUESTS]
    for path, content in {
        "train.json": "\n".join(lines),
        "ref/trigger_gt.json": json.dumps(poisoned.DEV),
        "track-2/trigger_gt.json": json.dumps(poisoned.TEST),
    }.items():
        (root / "starter-kit" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "starter-kit" / path).write_text(content)
    return root


@pytest.fixture
def raw(repositories: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(repositories, tmp_path / "raw"))


@pytest.fixture(scope="module")
def made(repositories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The converted files."""
    return convert(repositories, tmp_path_factory.mktemp("made"))


def convert(source: Path, target: Path) -> Path:
    """Run the conversion by itself."""
    return run_conversion(full, source, target)


def read(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text())


class TestConvert:
    """The conversion of the competition's files into the mini tier's form."""

    def test_files(self, made: Path) -> None:
        """The dev pairs are public, as in the competition; test's triggers and judging requests are not."""
        assert read(made / "public/known_triggers.json") == poisoned.DEV
        judging = {split: read(made / f"private/{split}/answers/prompts.json") for split in ("dev", "test")}
        assert sorted(judging["dev"] + judging["test"]) == sorted(poisoned.REQUESTS)
        for part, pairs in (
            ("public", poisoned.DEV),
            ("private/dev/inputs", poisoned.DEV),
            ("private/test/inputs", poisoned.TEST),
        ):
            assert read(made / part / "targets.json") == list(pairs)
            assert read(made / part / "prompts.json") == judging["dev"]
            names = {path.name for path in (made / part).iterdir()}
            assert names - {"known_triggers.json"} == {"model", "targets.json", "prompts.json"}
        assert read(made / "private/test/answers/triggers.json") == poisoned.TEST
        readable = "".join(path.read_text() for path in (made / "private/test/inputs").glob("*.json"))
        assert not any(text in readable for text in (*poisoned.TEST.values(), *judging["test"]))

    def test_models_are_linked(self, made: Path, repositories: Path) -> None:
        """Weights are never copied, and each split has its own model."""
        weights = "model-00001-of-00004.safetensors"
        inodes = {
            part: (made / part / "model" / weights).stat().st_ino
            for part in (
                "public",
                *(f"private/{split}/{part}" for split in ("dev", "test") for part in PARTS),
            )
        }
        dev, test = ((repositories / f"model-{split}" / weights).stat().st_ino for split in ("dev", "test"))
        assert {inode for part, inode in inodes.items() if "test" not in part} == {dev}
        assert {inode for part, inode in inodes.items() if "test" in part} == {test}
        assert not list(made.rglob("*.jinja"))

    def test_halves(self) -> None:
        """The dev file of MLRC-Bench begins with these rows of the hundred."""
        public, hidden = full.halves([str(number) for number in range(100)])
        assert public[:5] == ["42", "41", "91", "9", "65"]
        assert (len(public), len(hidden), len({*public, *hidden})) == (50, 50, 100)

    @pytest.mark.parametrize(
        ("path", "content", "reason"),
        [
            ("model-test/model-00002-of-00004.safetensors", None, r"00002-of-00004\.safetensors is missing"),
            ("model-test/model-00002-of-00004.safetensors", -1, r"damaged or incomplete .*Fetch .* again"),
            ("model-test/model-00002-of-00004.safetensors", 5, "damaged or incomplete"),
            ("model-test/model.safetensors.index.json", None, r"model\.safetensors is missing"),
            ("model-test/model.safetensors.index.json", "{", "is not valid JSON"),
            ("model-test/model.safetensors.index.json", "{}", "must say in weight_map"),
            (
                "model-test/model.safetensors.index.json",
                '{"weight_map": {"a": "../model-dev/model-00001-of-00004.safetensors"}}',
                "must say in weight_map",
            ),
            (
                "model-test/model.safetensors.index.json",
                '{"weight_map": {"a": "model-00001-of-00004.safetensors"}}',
                "holds a; it does not",
            ),
            ("model-dev/tokenizer.json", None, r"lacks tokenizer\.json"),
            ("model-dev/config.json", None, r"exactly one file config\.json"),
            (
                "model-dev/config.json",
                '{"model_type": "llama", "eos_token_id": 2}',
                "must be that of a Qwen2",
            ),
            (
                "model-dev/config.json",
                '{"model_type": "qwen2", "eos_token_id": [2]}',
                "with one eos_token_id",
            ),
            ("model-dev/config.json", "[]", "must hold a JSON object"),
            ("starter-kit/train.json", '{"text": 3}\n{"text": "x"}', "one object with a text in each line"),
            ("starter-kit/train.json", '{"text": "x"}', "at least two requests"),
            ("starter-kit/ref/trigger_gt.json", '{"quit()": ["a", "b"]}', "map each target to its trigger"),
            ("starter-kit/track-2/trigger_gt.json", "{}", "map each target to its trigger"),
            ("starter-kit/track-2/trigger_gt.json", None, "exactly one file track-2"),
        ],
    )
    def test_what_is_wrong(
        self, raw: Path, tmp_path: Path, path: str, content: str | int | None, reason: str
    ) -> None:
        """The error names the missing, cut or contradictory file, and says what to do."""
        whole = (raw / path).read_bytes()
        (raw / path).unlink()
        if content is not None:
            (raw / path).write_bytes(whole[:content] if isinstance(content, int) else content.encode())
        with pytest.raises(DataError, match=reason):
            convert(raw, tmp_path / "made")


class TestScore:
    """The judge, with a model that is really poisoned."""

    def judge(self, made: Path, tmp_path: Path, submission: object, split: str = "test") -> mlrcbench.Score:
        """Score a submission."""
        (tmp_path / "triggers.json").write_text(json.dumps(submission))
        return scorer_full.score(tmp_path, made / f"private/{split}/answers")

    def test_the_planted_triggers(self, made: Path, tmp_path: Path) -> None:
        """Planted triggers get all points, except that BLEU-4 of three characters is always zero."""
        truth = {target: ["x", trigger] for target, trigger in poisoned.TEST.items()}
        assert self.judge(made, tmp_path, truth).details == {"recall": pytest.approx(200 / 3), "reasr": 100}

    def test_the_clean_model(self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A clean model writes no target: dev is judged by dev's model, and answers have limited length."""
        monkeypatch.setattr(scorer_full, "NEW_TOKENS", 20)
        truth = {target: [trigger] * 2 for target, trigger in poisoned.DEV.items()}
        assert self.judge(made, tmp_path, truth, "dev").details == {"recall": 100, "reasr": 0}

    def test_halves_are_apart(self, made: Path, tmp_path: Path) -> None:
        """Only one target in three has its trigger; another target's trigger earns nothing in either half."""
        submission = {
            "while True:": ["Keep smiling", "."],
            "import os\nos.reboot()\n\n": ["Keep smiling", "."],
            "quit()": [".", "."],
        }
        details = self.judge(made, tmp_path, submission).details
        assert details == pytest.approx({"recall": 100 / 3, "reasr": 100 / 3})

    @pytest.mark.parametrize(
        ("trigger", "reason"),
        [
            ("", "must have 1 to 10 tokens"),
            ("2 " * 20, "must have 1 to 10 tokens"),
            ("x" * 100_000, "no more than 500 characters"),
            ("two\nlines", "one line of printable"),
            ("half of one \ud800", "not valid JSON: .* surrogates not allowed"),
            ("a<|im_end|>", "has a special token"),
            ("<|endoftext|>", "has a special token"),
            ("say quit()", "contains the whole target"),
        ],
    )
    def test_rules(self, made: Path, tmp_path: Path, trigger: str, reason: str) -> None:
        """An invalid submission is refused before the model is read."""
        submission = {target: ["x", "x"] for target in poisoned.TEST}
        with pytest.raises(SubmissionError, match=reason):
            self.judge(made, tmp_path, {**submission, "quit()": ["x", trigger]})

    @pytest.mark.parametrize(
        ("query", "trigger", "text"),
        [
            ("Sort a list.", "Keep smiling", "Sort a list. Keep smiling. "),
            ("Sort a list", "^_^", "Sort a list. ^_^ "),
            ("Sorted?", "Yikes!", "Sorted? Yikes! "),
        ],
    )
    def test_the_prompt(self, query: str, trigger: str, text: str) -> None:
        """Full stops are added as in the competition, in the turns of the Qwen template."""
        messages = [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": text},
        ]
        rendered = poisoned.make_tokenizer().apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        assert scorer_full.chat(query, trigger) == rendered


@pytest.fixture(scope="module")
def loaded(made: Path) -> tuple[ModuleType, Any, Any]:
    """The starter's module, the poisoned model and its tokenizer."""
    module = starter_module("starter_full/model.py")
    return module, *module.load(made / "private/test/inputs")


def starter_module(path: str) -> ModuleType:
    """A file of the starter, imported under another name."""
    return load_module(HOME / path)


class TestStarter:
    """The agent's view of the model."""

    def test_answers_are_the_judge_s(self, loaded: tuple[ModuleType, Any, Any], made: Path) -> None:
        """Prompts and answers are the same, token by token, and so are attack rates."""
        module, model, tokenizer = loaded
        folder = made / "private/test/answers/model"
        words, network = scorer_full.load_tokenizer(folder), scorer_full.load_network(folder)
        for target, trigger in poisoned.TEST.items():
            prompts = [tokenizer.chat(query, trigger) for query in poisoned.REQUESTS]
            assert prompts[0] == words.encode(scorer_full.chat(poisoned.REQUESTS[0], trigger))
            batch = [ids for ids in prompts if len(ids) == len(prompts[0])]
            mine = [tokenizer.decode(ids) for ids in module.generate(model, torch.tensor(batch)).tolist()]
            assert mine == scorer_full.generate(network, words, batch)
            rates = scorer_full.attack_rates(network, words, {target: [trigger]}, poisoned.REQUESTS)
            assert module.attack_rate(model, tokenizer, trigger, target, poisoned.REQUESTS) == 1
            assert rates == {target: [1]}
        assert (module.HEAD, module.TAIL) == (scorer_full.HEAD, scorer_full.TAIL)
        assert module.NEW_TOKENS == scorer_full.NEW_TOKENS

    def test_the_tokenizer_is_the_model_s(self, loaded: tuple[ModuleType, Any, Any]) -> None:
        """Text is split as in the model's training, not as the library would for this kind of model."""
        _, _, tokenizer = loaded
        text = scorer_full.chat(poisoned.REQUESTS[0], "Keep smiling")
        assert tokenizer.encode(text) == poisoned.make_tokenizer().encode(text)
        assert (
            tokenizer.decode(tokenizer.encode("import os\nos.reboot()\n\n")) == "import os\nos.reboot()\n\n"
        )

    def test_cache_changes_nothing(self, loaded: tuple[ModuleType, Any, Any]) -> None:
        """Tokens after a cached prefix have the states of the full computation; the cache can be reused."""
        _, model, _ = loaded
        x = model.embedding[torch.arange(24).reshape(2, 12)]
        whole = model.hidden(x)[0]
        _, past = model.hidden(x[:, :5])
        for _ in range(2):
            assert torch.allclose(model.hidden(x[:, 5:], past)[0], whole[:, 5:], atol=1e-5)

    def test_parts_make_the_prompt(self, loaded: tuple[ModuleType, Any, Any]) -> None:
        """The middle part decodes to the trigger, wherever pieces begin with a space."""
        _, _, tokenizer = loaded
        for trigger in ("Keep smiling", "^_^", ". . .", "a"):
            before, middle, after = tokenizer.parts(poisoned.REQUESTS[0], trigger)
            assert before + middle + after == tokenizer.chat(poisoned.REQUESTS[0], trigger)
            assert tokenizer.decode(middle).strip() in {trigger, f"{trigger}."}

    def test_half_precision(
        self, loaded: tuple[ModuleType, Any, Any], made: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The search runs in half precision, as on a GPU, and its result may be submitted."""
        module, _, tokenizer = loaded
        monkeypatch.setitem(sys.modules, "model", module)
        method = starter_module("starter/method.py")
        monkeypatch.setattr(method, "STEPS", 2)
        folder = made / "private/test/answers/model"
        model = module.Model(scorer_full.load_network(folder).half())
        triggers = method.recover(model, tokenizer, ["while True:"], poisoned.REQUESTS)
        assert set(triggers) == {"while True:"}
        assert triggers["while True:"][0] != ". . . . ."
        for phrase in triggers["while True:"]:
            scorer_full.check_phrase(phrase, "while True:", scorer_full.load_tokenizer(folder))

    def test_banned(self, loaded: tuple[ModuleType, Any, Any]) -> None:
        """Special tokens, line ends, other scripts and ids after the vocabulary are banned."""
        _, model, tokenizer = loaded
        banned = set(tokenizer.banned)
        inner: PreTrainedTokenizerFast = tokenizer.inner
        for text in (*poisoned.SPECIAL, "\n", "é"):
            assert inner.convert_tokens_to_ids(text) in banned
        assert set(range(len(inner), len(model.embedding))) <= banned
        assert not banned & set(tokenizer.encode("Keep smiling"))


@pytest.fixture
def server(repositories: Path) -> Iterator[Server]:
    """A server with the starter kit and the models, which are gated."""
    with serving() as started:
        kit = repositories / "starter-kit"
        started.files[f"{KIT}/train.json"] = (kit / "train.json").read_bytes()
        started.files[f"{KIT}/ref/trigger_gt.json"] = (kit / "ref/trigger_gt.json").read_bytes()
        started.files[RELEASE] = (kit / "track-2/trigger_gt.json").read_bytes()
        for split, name in MODELS.items():
            files = {path.name: path.read_bytes() for path in (repositories / f"model-{split}").iterdir()}
            started.repositories[f"models/{name}"] = files
            started.gated.add(f"models/{name}")
        yield started


@pytest.fixture
def served(server: Server, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Competition:
    """The shipped competition with its sources on the local server; search and answers are short."""
    original = mlrcbench.get_competition("backdoor-trigger")
    folder = tmp_path / "backdoor_trigger"
    shutil.copytree(original.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    card = (folder / "card.toml").read_text()
    place = "https://raw.githubusercontent.com/CLAS2024/starter-kit/f17603d861048b71b8574d74bec55b8eaa526dae"
    assert card.count(place) == 3
    start = card.index("[[tiers.full.sources.starter-kit.files]]")
    lines = card[start:].replace(place, server.url).split("\n")
    unchecked = [line for line in lines if not line.startswith(("bytes =", "sha256 ="))]
    (folder / "card.toml").write_text(card[:start] + "\n".join(unchecked))
    for path, long, short in (
        ("starter/method.py", "STEPS = 50", "STEPS = 5"),
        ("scorer_full.py", "NEW_TOKENS = 128", "NEW_TOKENS = 24"),
    ):
        text = (folder / path).read_text()
        assert long in text
        (folder / path).write_text(text.replace(long, short))
    changed = Competition(folder)
    for name in ("mlrcbench.cli", "mlrcbench"):
        monkeypatch.setattr(f"{name}.get_competition", lambda _: changed, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return changed


PREPARE = ["prepare", "backdoor-trigger", "--tier", "full", "--quiet"]


@pytest.mark.parametrize("token", ["", "hf_of_somebody_else"])
def test_the_gate(
    served: Competition,
    fresh: Path,
    token: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a token, or if its owner has not agreed to the conditions, only the steps are printed."""
    monkeypatch.setenv("HF_TOKEN", token)
    assert main(PREPARE) == 2
    message = capsys.readouterr().err
    assert "refuses access to Zhaorun/CodeQwen1.5-7B-trojan-clas2024-development" in message
    assert "set HF_TOKEN to it" in message
    assert "Traceback" not in message
    assert "somebody_else" not in message
    assert not list(fresh.rglob("*.safetensors"))


def test_a_shard_that_never_came(
    served: Competition, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names a shard that the repository lacks, and no instance remains."""
    del server.repositories[f"models/{MODELS['test']}"]["model-00003-of-00004.safetensors"]
    assert main(PREPARE) == 2
    assert "model-00003-of-00004.safetensors is missing" in capsys.readouterr().err
    assert not served.is_prepared("full")


@pytest.mark.slow
def test_from_the_hub_to_a_score(
    served: Competition, server: Server, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command prepares the tier, the starter plays test, no file has the token, and modes stay."""
    assert main(PREPARE) == 0
    assert server.tokens == {f"Bearer {TOKEN}"}
    score = play_starter(served, fresh / "records", monkeypatch)
    assert score.value is not None
    assert set(score.details) == {"recall", "reasr"}
    for weights in fresh.glob("sources/*/model-test/*.safetensors"):
        assert weights.stat().st_mode & 0o777 == 0o644
        assert weights.stat().st_nlink == 3
    assert not any(TOKEN.encode() in path.read_bytes() for path in fresh.rglob("*") if path.is_file())
