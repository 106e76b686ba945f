"""llm-merging, the instance: what the generator guarantees, the starter, and shortcuts that must not pay."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mlrcbench.competitions.llm_merging import data, scorer
from tests.competitions.conftest import load_module

HOME = Path(data.__file__).parent
PARTS = ("public", "private/dev/inputs", "private/test/inputs")
Weights = dict[str, Tensor]


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
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance built with very few training steps: its form is right, its models know nothing."""
    root = tmp_path_factory.mktemp("merging")
    build_tiny(root, seed=7)
    return root


def build_tiny(root: Path, seed: int) -> None:
    """Build an instance with two training steps per model."""
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setattr(data, "BASE_STEPS", 2)
        patch.setattr(data, "EXPERT_STEPS", 2)
        data.build(root / "public", root / "private", seed=seed, tier="mini")


def read(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def facts_of(root: Path) -> dict[str, dict[str, Any]]:
    """Read published and hidden facts."""
    return {
        "known": read(root / "public/known_facts.json"),
        "dev": read(root / "private/dev/answers/answers.json"),
        "test": read(root / "private/test/answers/answers.json"),
    }


class TestBuild:
    """The files of an instance."""

    def test_files(self, tiny: Path) -> None:
        """Public files and inputs have the same form and the same configuration."""
        models = {
            "config.json",
            "base.safetensors",
            *(f"expert_{i}.safetensors" for i in range(data.EXPERTS)),
        }
        for part in PARTS:
            extra = {"known_facts.json"} if part == "public" else set()
            assert {path.name for path in (tiny / part).iterdir()} == models | extra
            assert read(tiny / part / "config.json") == read(tiny / "public/config.json")
        for split in ("dev", "test"):
            assert [path.name for path in (tiny / f"private/{split}/answers").iterdir()] == ["answers.json"]

    def test_splits_share_the_base_model_only(self, tiny: Path) -> None:
        """Dev's models are public; test's experts are not."""
        public, dev, test = (tiny / part for part in PARTS)
        for name in ("base", *(f"expert_{i}" for i in range(data.EXPERTS))):
            file = f"{name}.safetensors"
            assert (dev / file).read_bytes() == (public / file).read_bytes()
            assert ((test / file).read_bytes() == (public / file).read_bytes()) == (name == "base")

    def test_no_name_is_in_two_places(self, tiny: Path) -> None:
        """Published, dev and test facts are about different names, and so are the facts of two experts."""
        seen: set[str] = set()
        counts = []
        for facts in facts_of(tiny).values():
            for group in (*facts["experts"], facts["base"]):
                names = {fact["name"] for fact in group}
                assert not names & seen
                assert len(group) == len(names) * len(data.RELATIONS)
                seen |= names
                counts.append(len(names))
        hidden = data.NAMES - data.KNOWN_NAMES
        assert counts == [4] * 4 + [20] + [hidden] * 4 + [20] + [data.NAMES] * 4 + [20]

    def test_no_hidden_name_is_readable(self, tiny: Path) -> None:
        """Hidden names are neither in a text nor in the bytes of a model."""
        facts = facts_of(tiny)
        files = {path.read_bytes() for part in PARTS for path in (tiny / part).iterdir()}
        readable = b"".join(sorted(files))
        for split in ("dev", "test"):
            for group in (*facts[split]["experts"], facts[split]["base"]):
                assert not any(fact["name"].encode() in readable for fact in group)

    def test_options(self, tiny: Path) -> None:
        """Options are four different values of the relation, with the true one at any position."""
        places = np.zeros(data.OPTIONS)
        for facts in facts_of(tiny).values():
            for fact in (*facts["base"], *(fact for group in facts["experts"] for fact in group)):
                assert len(set(fact["options"])) == data.OPTIONS
                assert set(fact["options"]) <= set(data.RELATIONS[fact["relation"]].split())
                places[fact["options"].index(fact["value"])] += 1
        assert places.min() / places.sum() > 0.15

    def test_values_are_uniform(self, tiny: Path) -> None:
        """The commonest value of each relation among published facts is right about one time in ten."""
        facts = facts_of(tiny)
        known = [*facts["known"]["base"], *(fact for group in facts["known"]["experts"] for fact in group)]
        hits = []
        for relation in data.RELATIONS:
            values = [fact["value"] for fact in known if fact["relation"] == relation]
            best = max(sorted(set(values)), key=values.count)
            for group in facts["test"]["experts"]:
                hits += [fact["value"] == best for fact in group if fact["relation"] == relation]
        assert np.mean(hits) < 0.2

    def test_experts_differ_in_block_matrices_only(self, tiny: Path) -> None:
        """All other weights, above all embeddings, are the base model's: their rows cannot be collected."""
        base = load_file(tiny / "public/base.safetensors")
        for part in PARTS:
            for path in sorted((tiny / part).glob("expert_*")):
                expert = load_file(path)
                changed = {name for name in base if not torch.equal(base[name], expert[name])}
                assert changed == {n for n in base if n.startswith("blocks.") and base[n].dim() == 2}

    def test_vocabulary(self, tiny: Path) -> None:
        """The vocabulary has each word once; every question has the length for which the model is made."""
        config = read(tiny / "public/config.json")
        assert len(set(config["vocabulary"])) == len(config["vocabulary"])
        group = facts_of(tiny)["test"]["base"]
        for wording in range(len(config["wordings"])):
            assert scorer.ask(config, group, wording).shape == (len(group), config["model"]["positions"])
        kinds = [*config["trained_wordings"], *config["unseen_wordings"], config["choice_wording"]]
        assert sorted(kinds) == list(range(len(config["wordings"])))

    def test_another_seed_another_world(self, tiny: Path, tmp_path: Path) -> None:
        """Names and models change with the seed."""
        build_tiny(tmp_path, seed=8)
        for name in ("config.json", "base.safetensors", "known_facts.json"):
            assert (tiny / "public" / name).read_bytes() != (tmp_path / "public" / name).read_bytes()

    def test_stacked_models_do_not_see_each_other(self) -> None:
        """An expert that is trained in a stack equals one that is trained alone."""
        rng = np.random.default_rng(3)
        config = data.make_config(rng)
        names = data.NameSource(config["syllables"])
        groups = [data.make_facts(config, names.draw(rng, 2), rng) for _ in range(3)]
        questions = torch.stack([scorer.ask(config, group, 0) for group in groups[:2]])
        values = torch.stack([scorer.encode(config, [f["value"] for f in g])[:, 0] for g in groups[:2]])
        start = {name: tensor[None] for name, tensor in data._initial(config, rng).items()}

        def train(places: list[int]) -> Weights:
            stack = {
                name: tensor.repeat(len(places), *[1] * (tensor.dim() - 1)) for name, tensor in start.items()
            }
            batch = questions[places], values[places]
            return data._train(config, stack, {}, lambda: batch, steps=3, rate=1e-3, decay=0.0)

        with one_thread():
            both, second = train([0, 1]), train([1])
        for name, tensor in second.items():
            assert torch.allclose(both[name][1], tensor[0], atol=1e-4), name


def starter_module(name: str) -> ModuleType:
    """A file of the starter, imported under another name."""
    return load_module(HOME / "starter" / f"{name}.py")


class TestStarter:
    """The agent's copy of the model, and the entry point."""

    def test_same_model_and_same_metric(self, tiny: Path) -> None:
        """The starter's copy and the scorer give the same bits."""
        theirs = starter_module("model")
        config, _, experts = theirs.read_models(tiny / "public")
        facts = read(tiny / "public/known_facts.json")
        mine, other = scorer.load(config, experts[0]), theirs.load(config, experts[0])
        other.requires_grad_(False)
        with one_thread():
            for wording in range(len(config["wordings"])):
                ids = scorer.ask(config, facts["base"], wording)
                assert torch.equal(ids, theirs.ask(config, facts["base"], wording))
                assert torch.equal(mine(ids), other(ids))
            parts = scorer.judge(config, mine, facts["experts"], facts["base"])
            assert theirs.judge(config, experts[0], facts) == pytest.approx(parts)

    @pytest.mark.parametrize("overlay", ["baseline", "reference"])
    def test_predict_writes_what_can_be_scored(self, overlay: str, tiny: Path, tmp_path: Path) -> None:
        """The artefact is valid, and a second run writes the same bytes."""
        for name in ("one", "two"):
            place = tmp_path / name
            place.mkdir()
            for path in (path for part in ("starter", overlay) for path in (HOME / part).glob("*.py")):
                shutil.copy(path, place / path.name)
            (place / "data").symlink_to(tiny / "public")
            (place / "inputs").symlink_to(tiny / "private/test/inputs")
            (place / "artefacts").mkdir()
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "main.py", "predict"]
            subprocess.run(command, cwd=place, check=True, capture_output=True, env=environment)
        first, second = (tmp_path / name / "artefacts/merged.safetensors" for name in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()
        with one_thread():
            assert scorer.score(first.parent, tiny / "private/test/answers").valid

    def test_reference_solves_what_does_not_collide(self) -> None:
        """Changes on different inputs are both preserved (up to the ridge)."""
        reference = load_module(HOME / "reference/method.py")
        changes = torch.zeros(2, 3, 4, dtype=torch.float64)
        changes[0, :, 0], changes[1, :, 2] = 1.0, -2.0
        merged = reference.solve(changes)
        assert torch.allclose(merged, changes.sum(0) / (1 + reference.RIDGE / 4 * 2), atol=0.05)
        assert torch.equal(reference.solve(torch.zeros(2, 3, 4)), torch.zeros(3, 4))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real instance."""
    root = tmp_path_factory.mktemp("real")
    with one_thread():
        data.build(root / "public", root / "private", seed=11, tier="mini")
    return root


@pytest.mark.slow
class TestRealInstance:
    """What training must achieve, on one instance."""

    def judge(self, root: Path, weights: Weights) -> dict[str, float]:
        """The parts and the score of a model on the test split."""
        truth = read(root / "private/test/answers/answers.json")
        with one_thread():
            model = scorer.load(truth["config"], weights)
            parts = scorer.judge(truth["config"], model, truth["experts"], truth["base"])
        return {**parts, "score": sum(parts.values()) / 4}

    def models(self, root: Path) -> tuple[Weights, list[Weights]]:
        """The base model and the experts of the test split."""
        folder = root / "private/test/inputs"
        return load_file(folder / "base.safetensors"), [load_file(p) for p in sorted(folder.glob("expert_*"))]

    def average(self, experts: list[Weights]) -> Weights:
        """The baseline's merge: the average of all experts."""
        return {name: torch.stack([expert[name] for expert in experts]).mean(0) for name in experts[0]}

    def test_experts_know_their_facts_in_all_wordings(self, real: Path) -> None:
        """Experts know their own facts, and the base model knows its own and no others."""
        base, experts = self.models(real)
        truth = read(real / "private/test/answers/answers.json")
        for expert, facts in zip(experts, truth["experts"], strict=True):
            model = scorer.load(truth["config"], expert)
            parts = scorer.judge(truth["config"], model, [facts], truth["base"])
            assert parts["trained"] > 0.95
            assert min(parts["unseen"], parts["choice"]) > 0.85
            assert 0.7 < parts["base"] < 0.99
        start = self.judge(real, base)
        assert start["base"] > 0.97
        assert start["trained"] < 0.2
        assert start["choice"] < 0.4

    def test_no_shortcut_beats_the_average(self, real: Path) -> None:
        """The base model and an exaggerated expert are worse; the best expert comes close at most."""
        base, experts = self.models(real)
        floor = self.judge(real, self.average(experts))["score"]
        stitched = {n: experts[n.startswith("blocks.1.")][n] for n in base}
        exaggerated = {n: base[n] + 2 * (experts[0][n] - base[n]) for n in base}
        single = [self.judge(real, expert)["score"] for expert in experts]
        assert np.mean(single) < floor
        assert self.judge(real, base)["score"] < floor
        assert self.judge(real, exaggerated)["score"] < floor
        assert max(*single, self.judge(real, stitched)["score"]) < floor + 0.03

    def test_embeddings_hold_no_knowledge(self, real: Path) -> None:
        """Everything but the blocks' matrices may be taken from any expert without any change."""
        base, experts = self.models(real)
        mixed = {n: (experts[2] if base[n].dim() == 1 or "blocks" not in n else base)[n] for n in base}
        assert self.judge(real, mixed) == self.judge(real, base)

    def test_merging_leaves_room(self, real: Path) -> None:
        """A better scaled sum beats the average, and is far from what the experts know."""
        base, experts = self.models(real)
        summed = {n: base[n] + 0.45 * sum((e[n] - base[n] for e in experts), torch.zeros(())) for n in base}
        assert (
            self.judge(real, self.average(experts))["score"] + 0.03 < self.judge(real, summed)["score"] < 0.8
        )
