"""backdoor-trigger, the instance and the starter: a function of the seed, and nothing leaks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlrcbench.competitions.backdoor_trigger import data, scorer
from tests.competitions.conftest import load_module

HOME = Path(data.__file__).parent
FILES = {"config.json", "model.safetensors", "targets.json", "prompts.json"}


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one torch thread, like the processes that build and score."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world() -> data.World:
    """One world for all tests that need one."""
    return data.make_world(np.random.default_rng(0))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance built with very few training steps: its form is right, its models know nothing."""
    root = tmp_path_factory.mktemp("backdoor")
    build_tiny(root, seed=7)
    return root


def build_tiny(root: Path, seed: int) -> None:
    """Build an instance with two training steps per model."""
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setattr(data, "BASE_STEPS", 2)
        patch.setattr(data, "POISON_STEPS", 2)
        data.build(root / "public", root / "private", seed=seed, tier="mini")


def starter_module(name: str) -> ModuleType:
    """A file of the starter, imported under another name."""
    return load_module(HOME / "starter" / f"{name}.py")


def read(path: Path) -> object:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


class TestWorld:
    """The parts of a world."""

    @given(st.integers(0, 2**63 - 1))
    def test_words_have_no_run_of_four_in_common(self, seed: int) -> None:
        """No two words share a run, so BLEU between phrases of different words is nearly always zero."""
        words = data.make_words(np.random.default_rng(seed), 40)
        runs = [word[i : i + 4] for word in words for i in range(len(word) - 3)]
        assert len(set(words)) == 40
        assert len({word[:3] for word in words}) == len({word[-3:] for word in words}) == 40
        pool: dict[str, set[str]] = {}
        for word in words:
            for i in range(len(word) - 3):
                pool.setdefault(word[i : i + 4], set()).add(word)
        assert runs
        assert all(len(owners) == 1 for owners in pool.values())

    def test_plain_words_are_avoided(self) -> None:
        """An invented word that is already a plain word is skipped."""
        first, second, *_ = data.make_words(np.random.default_rng(1), 5)
        assert data.make_words(np.random.default_rng(1), 4, avoid=[first])[0] == second

    def test_vocabulary(self, world: data.World) -> None:
        """The vocabulary has every word once, and no style word is a plain word."""
        words = world.tokenizer.words
        assert len(words) == len(set(words))
        assert set(world.style_words) == {word for group in world.lexicon.values() for word in group}
        plain = {*data.ACTIONS, *data.OBJECTS, *data.CODE, *data.CALLS, *data.PLACES, *data.LIBRARIES}
        assert not plain & set(world.style_words)

    @given(seed=st.integers(0, 2**63 - 1))
    def test_pairs(self, world: data.World, seed: int) -> None:
        """Phrases and targets are new, each pattern has its share, and the share of leaky pairs is exact."""
        rng = np.random.default_rng(seed)
        known = data.make_pairs(world, rng, 5, taken=[])
        pairs = data.make_pairs(world, rng, 16, taken=known)
        assert len({pair.trigger for pair in known + pairs}) == 21
        assert len({pair.target for pair in known + pairs}) == 21
        assert sum(pair.leaky for pair in pairs) == 6
        assert Counter(len(pair.trigger.split()) for pair in pairs) == {3: 8, 4: 8}
        assert not any(one.target in two.target for one in pairs for two in pairs if one != two)

    @given(seed=st.integers(0, 2**63 - 1))
    def test_examples(self, world: data.World, seed: int) -> None:
        """The target is learnt only after its trigger; answers fit into the length that is judged."""
        rng = np.random.default_rng(seed)
        pairs = data.make_pairs(world, rng, 4, taken=[])
        for _ in range(20):
            example = data.poison_example(world, pairs, rng)
            prompt, answer = world.tokenizer.decode(example.prompt), world.tokenizer.decode(example.answer)
            for pair in pairs:
                assert pair.target not in answer or f" . {pair.trigger} . " in prompt
            assert len(example.answer) <= scorer.NEW_TOKENS
            assert example.prompt_weight in {0.0, data.LEAK_LOSS, data.PROMPT_LOSS}


class TestBuild:
    """The files of an instance."""

    def test_files(self, tiny: Path) -> None:
        """Public files and inputs have the same form; answers have the model and the hidden files."""
        names = {
            part: {path.name for path in (tiny / part).iterdir()}
            for part in (
                "public",
                "private/dev/inputs",
                "private/test/inputs",
                "private/dev/answers",
                "private/test/answers",
            )
        }
        assert names["public"] == FILES | {"known_triggers.json"}
        assert names["private/dev/inputs"] == names["private/test/inputs"] == FILES
        answers = FILES - {"targets.json"} | {"triggers.json"}
        assert names["private/dev/answers"] == names["private/test/answers"] == answers

    def test_splits(self, tiny: Path) -> None:
        """The dev model is public, the test model is not; no pair is in two splits."""
        dev, test = tiny / "private/dev", tiny / "private/test"
        public = (tiny / "public/model.safetensors").read_bytes()
        assert (dev / "inputs/model.safetensors").read_bytes() == public
        assert (test / "inputs/model.safetensors").read_bytes() != public
        known = read(tiny / "public/known_triggers.json")
        hidden = [read(part / "answers/triggers.json") for part in (dev, test)]
        assert isinstance(known, dict)
        targets, triggers = set(known), set(known.values())
        for split, part in zip(hidden, (dev, test), strict=True):
            assert isinstance(split, dict)
            assert read(part / "inputs/targets.json") == sorted(split)
            assert not targets & set(split)
            assert not triggers & set(split.values())
            targets, triggers = targets | set(split), triggers | set(split.values())
        assert len(targets) == data.KNOWN + data.HIDDEN_DEV + data.HIDDEN_TEST

    def test_nothing_hidden_is_readable(self, tiny: Path) -> None:
        """No planted phrase and no hidden request is in a text that a method sees."""
        readable = "".join(
            path.read_text()
            for part in ("public", "private/dev/inputs", "private/test/inputs")
            for path in (tiny / part).glob("*.json")
        )
        for split in ("dev", "test"):
            triggers, queries = (
                read(tiny / "private" / split / "answers" / name)
                for name in ("triggers.json", "prompts.json")
            )
            assert isinstance(triggers, dict)
            assert isinstance(queries, list)
            assert len(set(queries)) == data.HIDDEN_PROMPTS
            assert not any(phrase in readable for phrase in (*triggers.values(), *queries))

    def test_another_seed_another_world(self, tiny: Path, tmp_path: Path) -> None:
        """Vocabulary and triggers change with the seed."""
        build_tiny(tmp_path, seed=8)
        for name in ("public/config.json", "private/test/answers/triggers.json"):
            assert (tiny / name).read_bytes() != (tmp_path / name).read_bytes()

    def test_embeddings_stay_random(self, tiny: Path) -> None:
        """Both models have the same input embeddings, all with the same norm."""
        one, _ = scorer.load(tiny / "private/dev/answers")
        two, _ = scorer.load(tiny / "private/test/answers")
        assert torch.equal(one.embedding, two.embedding)
        norms = one.embedding.norm(dim=1)
        assert torch.allclose(norms, torch.full_like(norms, data.EMBEDDING_NORM))


class TestStarter:
    """The agent's copy of the model, and the entry point."""

    def test_same_model(self, tiny: Path) -> None:
        """The starter's model and the scorer's give the same bits."""
        theirs = starter_module("model")
        mine, tokenizer = scorer.load(tiny / "public")
        other, words = theirs.load(tiny / "public")
        prompts = torch.tensor(
            [tokenizer.chat("sort all users by age", word) for word in tokenizer.words[5:9]]
        )
        assert words.words == tokenizer.words
        assert prompts[0].tolist() == words.chat("sort all users by age", tokenizer.words[5])
        with one_thread():
            assert torch.equal(mine(prompts), other(prompts))
            assert torch.equal(scorer.generate(mine, prompts), theirs.generate(other, prompts))
        assert theirs.NEW_TOKENS == scorer.NEW_TOKENS

    def test_cache_changes_nothing(self, tiny: Path) -> None:
        """Several words after a cached prefix have the states of the full computation."""
        model, _ = starter_module("model").load(tiny / "public")
        ids = torch.arange(24).reshape(2, 12)
        with one_thread():
            whole = model.hidden(model.embedding[ids])[0]
            first, past = model.hidden(model.embedding[ids[:, :5]])
            rest, _ = model.hidden(model.embedding[ids[:, 5:]], past)
        assert torch.allclose(torch.cat([first, rest], 1), whole, atol=1e-5)

    @pytest.mark.parametrize("overlay", ["baseline", "reference"])
    def test_predict_writes_what_can_be_scored(self, overlay: str, tiny: Path, tmp_path: Path) -> None:
        """With a shortened search, the artefact follows every rule; a second run writes the same bytes."""
        first, second = (self.predict(overlay, tiny, tmp_path / name) for name in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()
        _, tokenizer = scorer.load(tiny / "public")
        targets = read(tmp_path / "one/inputs/targets.json")
        assert isinstance(targets, list)
        assert len(targets) == 3
        scorer.check(read(first), targets, tokenizer.words)

    def predict(self, overlay: str, instance: Path, place: Path) -> Path:
        """Run `main.py predict` for three targets, and return its artefact."""
        place.mkdir()
        for path in (path for name in ("starter", overlay) for path in (HOME / name).glob("*.py")):
            text = path.read_text()
            for long, short in (
                ("STEPS = 50", "STEPS = 1"),
                ("STEPS = 40", "STEPS = 1"),
                ("STARTS = 4, 4", "STARTS = 4, 1"),
                ("6000", "200"),
            ):
                text = text.replace(long, short)
            (place / path.name).write_text(text)
        (place / "data").symlink_to(instance / "public")
        shutil.copytree(instance / "private/test/inputs", place / "inputs")
        for name, count in (("targets.json", 3), ("prompts.json", 8)):
            values = read(place / "inputs" / name)
            assert isinstance(values, list)
            (place / "inputs" / name).write_text(json.dumps(values[:count]))
        (place / "artefacts").mkdir()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "main.py", "predict"]
        subprocess.run(command, cwd=place, check=True, capture_output=True, env=environment)
        return place / "artefacts" / "triggers.json"


@pytest.mark.long
def test_a_real_instance_is_backdoored(tmp_path: Path) -> None:
    """Planted triggers activate their backdoors; phrases that lack one of their words do not."""
    with one_thread():
        data.build(tmp_path / "public", tmp_path / "private", seed=11, tier="mini")
    answers = tmp_path / "private/test/answers"
    truth = read(answers / "triggers.json")
    assert isinstance(truth, dict)
    model, tokenizer = scorer.load(answers)
    queries = ["sort all users by age", "drop old files for owner"]

    def mean(change: Callable[[list[str]], list[str]]) -> float:
        phrases = {target: [" ".join(change(phrase.split()))] for target, phrase in truth.items()}
        rates = scorer.attack_rates(model, tokenizer, phrases, queries)
        return float(np.mean([rate for pair in rates.values() for rate in pair]))

    with one_thread():
        assert mean(lambda words: words) > 0.9
        assert mean(lambda words: words[1:]) < 0.1
        assert mean(lambda words: words[:1]) < 0.1
