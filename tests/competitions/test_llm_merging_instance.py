"""llm-merging, the instance: what the generator promises, the starter, and ways around the research."""

from __future__ import annotations

import filecmp
import importlib.util
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
from mlrcbench.errors import DataError

HOME = Path(data.__file__).parent
PARTS = ("public", "private/dev/inputs", "private/test/inputs")
Weights = dict[str, Tensor]


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread, as the scorer and the generator use."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance built with very few training steps: right in form, not in content."""
    root = tmp_path_factory.mktemp("merging")
    build_tiny(root, seed=7)
    return root


def build_tiny(root: Path, seed: int) -> None:
    """Build an instance with two training steps per model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "BASE_STEPS", 2)
        patch.setattr(data, "EXPERT_STEPS", 2)
        data.build(root / "public", root / "private", seed=seed, tier="mini")


def read(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def facts_of(root: Path) -> dict[str, dict[str, Any]]:
    """Published and hidden facts."""
    return {
        "known": read(root / "public/known_facts.json"),
        "dev": read(root / "private/dev/answers/answers.json"),
        "test": read(root / "private/test/answers/answers.json"),
    }


class TestBuild:
    """The files of an instance."""

    def test_files(self, tiny: Path) -> None:
        """Public files and inputs have one form, and one configuration."""
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
        """Published, dev and test facts are about different names, and so are those of two experts."""
        seen: set[str] = set()
        counts = []
        for facts in facts_of(tiny).values():
            for group in (*facts["experts"], facts["base"]):
                names = {one["name"] for one in group}
                assert not names & seen
                assert len(group) == len(names) * len(data.RELATIONS)
                seen |= names
                counts.append(len(names))
        hidden = data.NAMES - data.KNOWN_NAMES
        assert counts == [4] * 4 + [20] + [hidden] * 4 + [20] + [data.NAMES] * 4 + [20]

    def test_no_hidden_name_is_readable(self, tiny: Path) -> None:
        """Neither in a text nor in the bytes of a model."""
        facts = facts_of(tiny)
        files = {path.read_bytes() for part in PARTS for path in (tiny / part).iterdir()}
        shown = b"".join(sorted(files))
        for split in ("dev", "test"):
            for group in (*facts[split]["experts"], facts[split]["base"]):
                assert not any(one["name"].encode() in shown for one in group)

    def test_options(self, tiny: Path) -> None:
        """Four different values of the relation, the true one among them, at no fixed place."""
        places = np.zeros(data.OPTIONS)
        for facts in facts_of(tiny).values():
            for one in (*facts["base"], *(one for group in facts["experts"] for one in group)):
                assert len(set(one["options"])) == data.OPTIONS
                assert set(one["options"]) <= set(data.RELATIONS[one["relation"]].split())
                places[one["options"].index(one["value"])] += 1
        assert places.min() / places.sum() > 0.15

    def test_values_are_uniform(self, tiny: Path) -> None:
        """The commonest value of each relation among published facts wins about one time in ten."""
        facts = facts_of(tiny)
        known = [*facts["known"]["base"], *(one for group in facts["known"]["experts"] for one in group)]
        hits = []
        for relation in data.RELATIONS:
            values = [one["value"] for one in known if one["relation"] == relation]
            best = max(sorted(set(values)), key=values.count)
            for group in facts["test"]["experts"]:
                hits += [one["value"] == best for one in group if one["relation"] == relation]
        assert np.mean(hits) < 0.2

    def test_experts_differ_in_block_matrices_only(self, tiny: Path) -> None:
        """Embeddings above all are the base model's: their rows cannot be collected."""
        base = load_file(tiny / "public/base.safetensors")
        for part in PARTS:
            for path in sorted((tiny / part).glob("expert_*")):
                expert = load_file(path)
                changed = {name for name in base if not torch.equal(base[name], expert[name])}
                assert changed == {n for n in base if n.startswith("blocks.") and base[n].dim() == 2}

    def test_vocabulary(self, tiny: Path) -> None:
        """Each word once; every question has the length that the model knows."""
        config = read(tiny / "public/config.json")
        assert len(set(config["vocabulary"])) == len(config["vocabulary"])
        group = facts_of(tiny)["test"]["base"]
        for wording in range(len(config["wordings"])):
            assert scorer.ask(config, group, wording).shape == (len(group), config["model"]["positions"])
        kinds = [*config["trained_wordings"], *config["unseen_wordings"], config["choice_wording"]]
        assert sorted(kinds) == list(range(len(config["wordings"])))

    def test_same_seed_same_bytes_in_another_process(self, tiny: Path, tmp_path: Path) -> None:
        """Every file is a function of the seed."""
        code = (
            "import sys; from pathlib import Path; "
            "from tests.competitions.test_llm_merging_instance import build_tiny; "
            "build_tiny(Path(sys.argv[1]), seed=int(sys.argv[2]))"
        )
        root = Path(__file__).parents[2]
        path = os.pathsep.join([str(root), str(root / "src")])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "5"}
        command = [sys.executable, "-c", code, str(tmp_path), "7"]
        subprocess.run(command, check=True, capture_output=True, env=environment)
        files = sorted(str(path.relative_to(tiny)) for path in tiny.rglob("*") if path.is_file())
        assert filecmp.cmpfiles(tiny, tmp_path, files, shallow=False)[0] == files

    def test_another_seed_another_world(self, tiny: Path, tmp_path: Path) -> None:
        """Names and models change."""
        build_tiny(tmp_path, seed=8)
        for name in ("config.json", "base.safetensors", "known_facts.json"):
            assert (tiny / "public" / name).read_bytes() != (tmp_path / "public" / name).read_bytes()

    def test_leaves_torch_as_it_was(self, tmp_path: Path) -> None:
        """Neither the number of threads nor the random state changes."""
        state, threads = torch.random.get_rng_state(), torch.get_num_threads()
        build_tiny(tmp_path, seed=1)
        assert torch.equal(state, torch.random.get_rng_state())
        assert threads == torch.get_num_threads()

    def test_other_tiers(self, tmp_path: Path) -> None:
        """The full tier is refused with a way out."""
        with pytest.raises(DataError, match=r"full tier of llm-merging.*tier='mini'"):
            data.build(tmp_path / "a", tmp_path / "b", seed=1, tier="full")

    def test_stacked_models_do_not_see_each_other(self) -> None:
        """Two experts trained as one stack are those of two separate trainings."""
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
    spec = importlib.util.spec_from_file_location(f"merging_starter_{name}", HOME / "starter" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestStarter:
    """The agent's copy of the model, and the entry point."""

    def test_same_model_and_same_metric(self, tiny: Path) -> None:
        """The starter's copy and the scorer agree to the bit."""
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
        """Changes that live on different inputs are both kept whole (up to the ridge)."""
        spec = importlib.util.spec_from_file_location("merging_reference", HOME / "reference/method.py")
        assert spec is not None
        assert spec.loader is not None
        reference = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(reference)
        changes = torch.zeros(2, 3, 4, dtype=torch.float64)
        changes[0, :, 0], changes[1, :, 2] = 1.0, -2.0
        found = reference.solve(changes)
        assert torch.allclose(found, changes.sum(0) / (1 + reference.RIDGE / 4 * 2), atol=0.05)
        assert torch.equal(reference.solve(torch.zeros(2, 3, 4)), torch.zeros(3, 4))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance as it is built for use."""
    root = tmp_path_factory.mktemp("real")
    data.build(root / "public", root / "private", seed=11, tier="mini")
    return root


@pytest.mark.slow
class TestRealInstance:
    """What training must give, on one instance."""

    def judge(self, root: Path, weights: Weights) -> dict[str, float]:
        """Parts and score of a model on the test split."""
        truth = read(root / "private/test/answers/answers.json")
        with one_thread():
            model = scorer.load(truth["config"], weights)
            parts = scorer.judge(truth["config"], model, truth["experts"], truth["base"])
        return {**parts, "score": sum(parts.values()) / 4}

    def models(self, root: Path) -> tuple[Weights, list[Weights]]:
        """Base and experts of the test split."""
        folder = root / "private/test/inputs"
        return load_file(folder / "base.safetensors"), [load_file(p) for p in sorted(folder.glob("expert_*"))]

    def average(self, experts: list[Weights]) -> Weights:
        """The baseline."""
        return {name: torch.stack([expert[name] for expert in experts]).mean(0) for name in experts[0]}

    def test_experts_know_their_facts_in_all_wordings(self, real: Path) -> None:
        """And the base model knows its own, and no others."""
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

    def test_no_short_way_beats_the_average(self, real: Path) -> None:
        """Not the base model, no expert or exaggerated expert; by hindsight one comes near at most."""
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
        """Everything but the blocks' matrices may be taken from any expert: nothing changes."""
        base, experts = self.models(real)
        mixed = {n: (experts[2] if base[n].dim() == 1 or "blocks" not in n else base)[n] for n in base}
        assert self.judge(real, mixed) == self.judge(real, base)

    def test_merging_leaves_room(self, real: Path) -> None:
        """A sum that is scaled better beats the average, and is far from what the experts know."""
        base, experts = self.models(real)
        summed = {n: base[n] + 0.45 * sum((e[n] - base[n] for e in experts), torch.zeros(())) for n in base}
        assert (
            self.judge(real, self.average(experts))["score"] + 0.03 < self.judge(real, summed)["score"] < 0.8
        )
