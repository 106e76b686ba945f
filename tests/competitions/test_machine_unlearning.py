"""machine-unlearning: the metric is the challenge's, artefacts are checked, and nothing leaks."""

from __future__ import annotations

import filecmp
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mlrcbench.competitions.machine_unlearning import data, scorer
from mlrcbench.errors import DataError, SubmissionError

HOME = Path(data.__file__).parent
STARTER = HOME / "starter"
METHODS = Path(__file__).parents[2] / "docs/competitions/machine_unlearning/methods"
FILE = "models.safetensors"
Tensors = dict[str, torch.Tensor]


def build(root: Path, seed: int) -> Path:
    """A real instance."""
    data.build(root / "public", root / "private", seed=seed, tier="mini")
    return root


def build_tiny(root: Path, seed: int) -> None:
    """An instance that is right in form only: few models, few epochs."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("MODELS", 5), ("EPOCHS", 1), ("BASE_EPOCHS", 1), ("BASE", 128)):
            patch.setattr(data, name, value)
        build(root, seed)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real instance for all tests that need one."""
    return build(tmp_path_factory.mktemp("unlearning"), seed=5)


class TestConfidence:
    """The logit-scaled confidence."""

    def test_by_hand(self) -> None:
        """Probabilities 3/4 and 1/4: the log-odds of the label."""
        logits = torch.tensor([[[math.log(3.0), 0.0], [math.log(3.0), 0.0]]])
        found = scorer.confidence(logits, torch.tensor([0, 1]))
        assert found[0] == pytest.approx([math.log(3), -math.log(3)])

    def test_bounded(self) -> None:
        """Huge logits are clamped, which bounds the grids of thresholds."""
        logits = torch.tensor([[[3e38, -3e38], [-3e38, 3e38]]])
        found = scorer.confidence(logits, torch.tensor([0, 0]))
        assert found[0] == pytest.approx([-math.log(1e-45), math.log(1e-45)])


class TestEpsilon:
    """What attacks show."""

    def test_table(self) -> None:
        """Rates 1/4 and 1/2, worked by hand; one zero is ignored, two are infinite."""
        table = scorer.epsilon_table(4)
        expected = max(math.log(0.75 - 1e-5) - math.log(0.5), math.log(0.5 - 1e-5) - math.log(0.25))
        assert table[1, 2] == pytest.approx(expected)
        assert table[0, 0] == np.inf
        assert (table[0, 1:] == -1).all()
        assert (table[1:, 0] == -1).all()
        assert table[4, 4] == -1
        assert table[2, 3] == 0

    def test_separated(self) -> None:
        """Samples that a threshold separates have the cap."""
        one, two = np.linspace(0, 1, 20), np.linspace(2, 3, 20)
        assert scorer.epsilon(one, two, scorer.epsilon_table(20)) == scorer.EPSILON_CAP

    def test_peaky(self) -> None:
        """A sample a hundred times narrower than the other has the cap, wherever it lies."""
        wide = np.linspace(-1, 1, 20)
        table = scorer.epsilon_table(20)
        assert scorer.epsilon(wide * 0.009, wide, table) == scorer.EPSILON_CAP
        assert scorer.epsilon(np.zeros(20), wide, table) == scorer.EPSILON_CAP
        assert scorer.epsilon(np.zeros(20), np.zeros(20), table) == scorer.EPSILON_CAP

    def test_spread_alone_is_seen(self) -> None:
        """Equal medians, unequal spreads: an interval tells more than any threshold."""
        wide = np.linspace(-30, 30, 96)
        table = scorer.epsilon_table(96)
        assert scorer.epsilon(wide / 20, wide, table) > scorer._single(np.sort(wide / 20), wide, table) > 0

    def test_threshold_by_hand(self) -> None:
        """Above 2, t has a = 1/4 and b = 1/2; above 1 the reverse; elsewhere one rate is zero."""
        upper, lower = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1.0, 2.0, 3.0])
        expected = max(math.log(0.75 - 1e-5) - math.log(0.5), math.log(0.5 - 1e-5) - math.log(0.25))
        assert scorer._single(upper, lower, scorer.epsilon_table(4)) == pytest.approx(expected)

    @settings(max_examples=8, deadline=None)
    @given(seed=st.integers(0, 10**6), shift=st.floats(0, 4), scale=st.floats(0.3, 3))
    def test_against_the_plain_formula(self, seed: int, shift: float, scale: float) -> None:
        """The same digits as attack by attack, and the same for both orders of the samples."""
        rng = np.random.default_rng(seed)
        one, two = rng.normal(size=12), shift + scale * rng.normal(size=12)
        table = scorer.epsilon_table(12)
        found = scorer.epsilon(one, two, table)
        assert found == pytest.approx(plain(one, two))
        assert found == pytest.approx(scorer.epsilon(two, one, table))
        assert 0 <= found <= scorer.EPSILON_CAP

    def test_points(self) -> None:
        """Bins of width one half, and nothing from ceil(log(95)) = 5 on."""
        epsilons = np.array([0.0, 0.49, 0.5, 1.2, 4.99, 5.0, 50.0])
        assert scorer.points(epsilons, 96).tolist() == [1, 1, 0.5, 0.25, 2.0**-9, 0, 0]
        assert scorer.points(np.array([6.9, 7.0]), 512).tolist() == [2.0**-13, 0]


def plain(one: np.ndarray, two: np.ndarray) -> float:
    """Epsilon by loops over attacks, without tables, sorting or the special rules for peaks."""
    upper, lower = (two, one) if np.median(two) > np.median(one) else (one, two)
    low, high = min(upper.min(), lower.min()), max(upper.max(), lower.max())
    attacks = [
        ((lower >= t).mean(), (upper < t).mean())
        for t in np.linspace(low, high, math.ceil((high - low) * 100))
    ]
    narrow, wide = (lower, upper) if np.ptp(upper) >= np.ptp(lower) else (upper, lower)
    ends = np.linspace(-2, 2, 400)
    for right in narrow.max() + ends:
        left = (right - np.ptp(narrow) + ends)[:, None]
        inside = [((left <= sample) & (sample <= right)).mean(1) for sample in (wide, narrow)]
        attacks += zip(inside[0], 1 - inside[1], strict=True)
    a, b = np.unique(np.round(np.array(attacks) * len(one)).astype(int), axis=0).T / len(one)
    if ((a == 0) & (b == 0)).any():
        return scorer.EPSILON_CAP
    a, b = a[(a > 0) & (b > 0)], b[(a > 0) & (b > 0)]
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.concatenate([np.log(1 - 1e-5 - a) - np.log(b), np.log(1 - 1e-5 - b) - np.log(a)])
    values = values[~np.isnan(values)]
    return float(max(0, values.max())) if len(values) else scorer.EPSILON_CAP


def edited(instance: Path, change: Callable[[Tensors], object]) -> Tensors:
    """Copies of the original, changed in place."""
    original = load_file(instance / "private/dev/inputs/model.safetensors")
    stack = {name: value.repeat(data.MODELS, 1, 1) for name, value in original.items()}
    change(stack)
    return stack


def judged(instance: Path, folder: Path, stack: Tensors) -> float:
    """The dev score of a stack."""
    save_file({name: value.contiguous() for name, value in stack.items()}, folder / FILE)
    value = scorer.score(folder, instance / "private/dev/answers").value
    assert value is not None
    return value


class TestArtefacts:
    """What is no submission is refused with a reason; what is hostile gets a clear result."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda s: s.pop("b1"), r"missing \['b1'\]"),
            (lambda s: s.update(extra=torch.zeros(1)), r"extra \['extra'\]"),
            (lambda s: s.update(w0=s["w0"][:5].clone()), "w0"),
            (lambda s: s.update(w0=s["w0"].double()), "w0"),
            (lambda s: s["w1"][3].fill_(torch.nan), "finite|NaN"),
            (lambda s: s["w1"][3].fill_(torch.inf), "finite|NaN"),
            (lambda s: [s[n][7].fill_(1e30) for n in ("w0", "w1", "w2")], "model 7 .* NaN or infinite"),
        ],
        ids=["missing", "extra", "few", "double", "nan", "infinite", "overflow"],
    )
    def test_invalid(
        self, change: Callable[[Tensors], object], message: str, instance: Path, tmp_path: Path
    ) -> None:
        """Each fault has its sentence."""
        with pytest.raises(SubmissionError, match=message):
            judged(instance, tmp_path, edited(instance, change))

    @pytest.mark.parametrize("content", [b"", b"x" * 100], ids=["empty", "garbage"])
    def test_not_safetensors(self, content: bytes, instance: Path, tmp_path: Path) -> None:
        """Another kind of file is named as such."""
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(SubmissionError, match="not a safetensors file"):
            scorer.score(tmp_path, instance / "private/dev/answers")

    @pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
    def test_worthless(self, scale: float, instance: Path, tmp_path: Path) -> None:
        """All zero, plain copies and huge weights are valid and earn nothing."""
        stack = edited(instance, lambda s: [value.mul_(scale) for value in s.values()])
        assert judged(instance, tmp_path, stack) == 0


class TestInstance:
    """A real instance asks for unlearning, and for nothing less."""

    def test_files(self, instance: Path) -> None:
        """Inputs have the form of the practice world; answers alone have retrained models and the base."""
        names = {
            part: {path.name for path in (instance / part).iterdir()}
            for part in ("public", "private/dev/inputs", "private/test/answers")
        }
        shown = {"model.safetensors", "sets.safetensors"}
        assert names["private/dev/inputs"] == shown
        assert names["public"] == shown | {"retrained.safetensors"}
        answers = {"retrained.safetensors", "base.safetensors", "judge.safetensors"}
        assert names["private/test/answers"] == answers
        assert set(load_file(instance / "public/retrained.safetensors")) == {
            "forget_confidence",
            "retain_accuracy",
            "forget_accuracy",
            "validation_accuracy",
        }

    def test_worlds_share_nothing(self, instance: Path) -> None:
        """No image of one world is in another, and test images are in no input."""
        folders = ["public", "private/dev/inputs", "private/test/inputs"]
        rows: set[bytes] = set()
        total = 0
        for folder in folders:
            sets = load_file(instance / folder / "sets.safetensors")
            for name in ("retain_x", "forget_x", "validation_x"):
                total += len(sets[name])
                rows |= {row.numpy().tobytes() for row in sets[name]}
        for split in ("dev", "test"):
            hidden = load_file(instance / f"private/{split}/answers/judge.safetensors")["test_x"]
            total += len(hidden)
            rows |= {row.numpy().tobytes() for row in hidden}
        assert len(rows) == total

    def test_the_original_remembers(self, instance: Path) -> None:
        """Original and retrained models differ on the forget set, and agree on test images."""
        answers = instance / "private/dev/answers"
        judge = load_file(answers / "judge.safetensors")
        original = load_file(instance / "private/dev/inputs/model.safetensors")
        retrained = load_file(answers / "retrained.safetensors")

        def right(stack: Tensors, name: str) -> float:
            logits = scorer.forward(stack, judge[f"{name}_x"])
            return (logits.argmax(-1) == judge[f"{name}_y"]).float().mean().item()

        assert right(original, "forget") > 0.9
        assert right(retrained, "forget") < 0.6
        assert right(retrained, "retain") > 0.9
        assert right(original, "test") == pytest.approx(right(retrained, "test"), abs=0.06)

    def test_oracle(self, instance: Path, tmp_path: Path) -> None:
        """Retrained models judged against themselves have every point: all attacks fail."""
        retrained = load_file(instance / "private/dev/answers/retrained.safetensors")
        assert judged(instance, tmp_path, retrained) == pytest.approx(1)

    @pytest.mark.slow
    def test_cheats(self, instance: Path, tmp_path: Path) -> None:
        """One good model with a little noise, or another world's retrained models, earn next to nothing.

        Noise on the original's weights, as wide as retrained models differ, earns little.
        """
        answers = instance / "private/dev/answers"
        retrained = load_file(answers / "retrained.safetensors")
        rng = torch.Generator().manual_seed(0)
        one = {
            name: value[:1] + 1e-3 * torch.randn(value.shape, generator=rng)
            for name, value in retrained.items()
        }
        assert judged(instance, tmp_path, one) < 0.005
        other = load_file(instance / "private/test/answers/retrained.safetensors")
        assert judged(instance, tmp_path, other) < 0.005

        def blur(stack: Tensors) -> None:
            for name in ("w0", "w1", "w2"):
                stack[name] += 0.2 * stack[name].std() * torch.randn(stack[name].shape, generator=rng)

        assert judged(instance, tmp_path, edited(instance, blur)) < 0.02


class TestBuild:
    """The files are a function of the seed."""

    def test_same_seed_same_bytes_in_another_process(self, tmp_path: Path) -> None:
        """And another seed gives other files."""
        code = (
            "import sys; from pathlib import Path; "
            "from tests.competitions.test_machine_unlearning import build_tiny; "
            "build_tiny(Path(sys.argv[1]), seed=int(sys.argv[2]))"
        )
        root = Path(__file__).parents[2]
        path = os.pathsep.join([str(root), str(root / "src")])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "5"}
        command = [sys.executable, "-c", code, str(tmp_path / "a"), "7"]
        subprocess.run(command, check=True, capture_output=True, env=environment)
        build_tiny(tmp_path / "b", seed=7)
        build_tiny(tmp_path / "c", seed=8)
        here = tmp_path / "b"
        files = sorted(str(path.relative_to(here)) for path in here.rglob("*") if path.is_file())
        assert filecmp.cmpfiles(here, tmp_path / "a", files, shallow=False)[0] == files
        assert filecmp.cmpfiles(here, tmp_path / "c", files, shallow=False)[1] == files

    def test_leaves_torch_as_it_was(self, tmp_path: Path) -> None:
        """Neither the number of threads nor the random state changes."""
        state, threads = torch.random.get_rng_state(), torch.get_num_threads()
        build_tiny(tmp_path, seed=1)
        assert torch.equal(state, torch.random.get_rng_state())
        assert threads == torch.get_num_threads()

    def test_other_tiers(self, tmp_path: Path) -> None:
        """The full tier is refused with a way out."""
        with pytest.raises(DataError, match=r"full tier of machine-unlearning.*tier='mini'"):
            data.build(tmp_path / "a", tmp_path / "b", seed=1, tier="full")


class TestStarter:
    """The entry point, and the agent's copies of model and metric."""

    @pytest.mark.slow
    def test_starter_and_reference(self, instance: Path, tmp_path: Path) -> None:
        """The starter repeats itself to the bit; short ways stay below it, and the reference is far above."""
        values: dict[str, list[float]] = {}
        for split in ("dev", "test"):
            answers = instance / f"private/{split}/answers"
            files: list[Path] = []
            for overlay in (
                STARTER,
                STARTER,
                HOME / "reference",
                METHODS / "noise",
                METHODS / "scratch_short",
            ):
                place = self.workspace(overlay, instance, tmp_path / f"{split}-{len(files)}")
                shutil.copytree(instance / f"private/{split}/inputs", place / "inputs")
                self.call(place, "predict")
                files.append(place / "artefacts" / FILE)
                value = scorer.score(place / "artefacts", answers).value
                assert value is not None
                values.setdefault(overlay.name, []).append(value)
            assert files[0].read_bytes() == files[1].read_bytes()
        means = {name: np.mean(found) for name, found in values.items()}
        assert max(means["noise"], means["scratch_short"]) < means["starter"] < 0.7 * means["reference"]
        assert means["reference"] > 0.03

    def test_practice(self, instance: Path, tmp_path: Path) -> None:
        """Without arguments, a practice score is printed; its metric is the scorer's."""
        place = self.workspace(STARTER, instance, tmp_path / "practice")
        assert "practice score 0." in self.call(place)
        code = (
            "import torch; from metric import *; from model import *; from main import read; "
            "torch.set_num_threads(1); model, sets = read('data'); "
            "stack = fresh(model, 96, np.random.default_rng(0)); x, y = sets['forget']; "
            "theirs = confidence(forward(stack, x) / 9, y); "
            "print(repr(forgetting_quality(theirs, theirs + np.linspace(0, 1, 96)[:, None])))"
        )
        printed = subprocess.run(
            [sys.executable, "-c", code], cwd=place, check=True, capture_output=True, text=True
        )
        sets = load_file(instance / "public/sets.safetensors")
        rng, stack = np.random.default_rng(0), {}
        for name, value in load_file(instance / "public/model.safetensors").items():
            shape = (96, *value.shape[1:])
            scale = math.sqrt(2 / shape[1]) if name[0] == "w" else 0.0
            stack[name] = torch.from_numpy((scale * rng.standard_normal(shape)).astype("float32"))
        ours = scorer.confidence(scorer.forward(stack, sets["forget_x"]) / 9, sets["forget_y"])
        quality, _ = scorer.forgetting_quality(ours, ours + np.linspace(0, 1, 96)[:, None])
        assert float(printed.stdout) == pytest.approx(quality, abs=1e-3)
        assert quality > 0

    def workspace(self, overlay: Path, instance: Path, place: Path) -> Path:
        """A workspace with an overlay's files."""
        shutil.copytree(STARTER, place, ignore=shutil.ignore_patterns("__pycache__"))
        for path in overlay.glob("*.py"):
            shutil.copy(path, place)
        (place / "data").symlink_to(instance / "public")
        return place

    def call(self, place: Path, *arguments: str) -> str:
        """What main.py prints."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "main.py", *arguments]
        done = subprocess.run(command, cwd=place, check=True, capture_output=True, text=True, env=environment)
        return done.stdout
