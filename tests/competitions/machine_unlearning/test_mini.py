"""machine-unlearning: no sample escapes the attacks, artefacts are checked, and nothing leaks."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mlrcbench.competitions.machine_unlearning import data, scorer
from mlrcbench.errors import SubmissionError
from tests.competitions.conftest import load_module

HOME = Path(data.__file__).parent
STARTER = HOME / "starter"
FILE = "models.safetensors"
Tensors = dict[str, torch.Tensor]


def build(root: Path, seed: int) -> Path:
    """Build an instance with one world in each split, and return its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "WORLDS", dict.fromkeys(data.WORLDS, 1))
        data.build(root / "public", root / "private", seed=seed, tier="mini")
    return root


def build_tiny(root: Path, seed: int) -> None:
    """Build an instance of the right form but without meaning: few models, few epochs."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("MODELS", 5), ("EPOCHS", 1), ("BASE_EPOCHS", 1), ("BASE", 128)):
            patch.setattr(data, name, value)
        build(root, seed)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one torch thread, like the processes that build and score."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One instance for all tests that need one: each world is as real as any."""
    return build(tmp_path_factory.mktemp("unlearning"), seed=5)


class TestConfidence:
    """The logit-scaled confidence of the true label."""

    def test_by_hand(self) -> None:
        """For probabilities 3/4 and 1/4, the confidence is the log-odds of the label."""
        logits = torch.tensor([[[math.log(3.0), 0.0], [math.log(3.0), 0.0]]])
        values = scorer.confidence(logits, torch.tensor([0, 1]))
        assert values[0] == pytest.approx([math.log(3), -math.log(3)])

    def test_bounded(self) -> None:
        """Huge logits are clamped, which bounds the grids of thresholds."""
        logits = torch.tensor([[[3e38, -3e38], [-3e38, 3e38]]])
        values = scorer.confidence(logits, torch.tensor([0, 0]))
        assert values[0] == pytest.approx([-math.log(1e-45), math.log(1e-45)])


class TestSmoothedEpsilon:
    """The largest epsilon of the attacks on an image, with smoothed rates."""

    def test_by_hand(self) -> None:
        """Below 1.5 lie 2 of 2 unlearned models and 1 of 2 retrained ones: rates 3/4 and 2/4."""
        unlearned, retrained = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
        # The other threshold, 0, has rates 2/4 and 1/4, and sides 2/4 and 3/4.
        assert scorer.attack_epsilons(unlearned, retrained) == pytest.approx([math.log(2)])

    @pytest.mark.parametrize("shift", [5.0, -5.0])
    def test_separated(self, shift: float) -> None:
        """Samples that a threshold separates have the largest epsilon, log(N + 1), on either side."""
        sample = np.linspace(0, 1, 20)[:, None]
        assert scorer.attack_epsilons(sample + shift, sample) == pytest.approx([math.log(21)])

    def test_a_copy_has_none(self) -> None:
        """A sample that equals the retrained one, in any order, cannot be attacked, and earns everything."""
        sample = np.random.default_rng(0).normal(size=(48, 3))
        quality, epsilons = scorer.smoothed_quality(sample[::-1], sample)
        assert epsilons == pytest.approx([0, 0, 0])
        assert quality == 1

    @pytest.mark.parametrize("scale", [0.0, 0.05, 20.0])
    def test_spread_alone_is_seen(self, scale: float) -> None:
        """Where the medians are equal, the distance from the median reveals an unequal spread."""
        wide = np.linspace(-1, 1, 48)[:, None]
        assert scorer.attack_epsilons(scale * wide, wide) > 2.5

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 10**6), shift=st.floats(0, 4), scale=st.floats(0, 3))
    def test_against_a_loop(self, seed: int, shift: float, scale: float) -> None:
        """The result equals a loop over all attacks."""
        rng = np.random.default_rng(seed)
        one, two = shift + scale * rng.normal(size=12), rng.normal(size=12)
        largest = 0.0
        for ours, theirs in ((one, two), (abs(one - np.median(two)), abs(two - np.median(two)))):
            for threshold in [*ours, *theirs]:
                for hits in (
                    (ours <= threshold, theirs <= threshold),
                    (ours > threshold, theirs > threshold),
                ):
                    hit, false = ((side.sum() + 1) / 14 for side in hits)
                    largest = max(
                        largest,
                        math.log((1 - false) / (1 - hit)),
                        math.log(hit / false),
                        -math.log(hit / false),
                    )
        assert scorer.attack_epsilons(one[:, None], two[:, None]) == pytest.approx([largest])

    @pytest.mark.parametrize("tail", [2, 4, 8])
    @pytest.mark.parametrize("decimals", [None, 0])
    def test_ties_do_not_pay(self, tail: int, decimals: int | None) -> None:
        """Ties in the tails, or on a grid, escape attacks of the published form; here they earn nothing."""
        rng = np.random.default_rng(1)
        retrained, honest = rng.normal(size=(48, 200)), rng.normal(size=(48, 200))
        tied = np.sort(honest, 0)
        tied[:tail], tied[-tail:] = tied[tail], tied[-tail - 1]
        tied = tied if decimals is None else tied.round(decimals)
        quality = scorer.smoothed_quality(honest, retrained)[0]
        assert scorer.smoothed_quality(tied, retrained)[0] < quality

    def test_the_starter_has_the_same(self) -> None:
        """The agent's copy of the metric gives the same epsilons and the same quality."""
        metric = load_module(STARTER / "metric.py")
        rng = np.random.default_rng(2)
        ours, theirs = rng.normal(size=(48, 9)), rng.normal(size=(48, 9)) + 0.5
        quality, epsilons = scorer.smoothed_quality(ours, theirs)
        assert metric.epsilons(ours, theirs) == pytest.approx(epsilons)
        assert metric.forgetting_quality(ours, theirs) == pytest.approx(quality)


class TestPublishedEpsilon:
    """The published form: the largest epsilon of the attacks on one image."""

    def test_table(self) -> None:
        """Rates 1/4 and 1/2 give the value worked by hand; one zero is ignored, two zeros are infinite."""
        table = scorer.epsilon_table(4)
        expected = max(math.log(0.75 - 1e-5) - math.log(0.5), math.log(0.5 - 1e-5) - math.log(0.25))
        assert table[1, 2] == pytest.approx(expected)
        assert table[0, 0] == np.inf
        assert (table[0, 1:] == -1).all()
        assert (table[1:, 0] == -1).all()
        assert table[4, 4] == -1
        assert table[2, 3] == 0

    def test_separated(self) -> None:
        """Samples that a threshold separates get the cap."""
        one, two = np.linspace(0, 1, 20), np.linspace(2, 3, 20)
        assert scorer.epsilon(one, two, scorer.epsilon_table(20)) == scorer.EPSILON_CAP

    def test_peaky(self) -> None:
        """A sample a hundred times narrower than the other gets the cap, wherever it lies."""
        wide = np.linspace(-1, 1, 20)
        table = scorer.epsilon_table(20)
        assert scorer.epsilon(wide * 0.009, wide, table) == scorer.EPSILON_CAP
        assert scorer.epsilon(np.zeros(20), wide, table) == scorer.EPSILON_CAP
        assert scorer.epsilon(np.zeros(20), np.zeros(20), table) == scorer.EPSILON_CAP

    def test_spread_alone_is_seen(self) -> None:
        """With equal medians and unequal spreads, an interval separates better than any threshold."""
        wide = np.linspace(-30, 30, 96)
        table = scorer.epsilon_table(96)
        assert scorer.epsilon(wide / 20, wide, table) > scorer._single(np.sort(wide / 20), wide, table) > 0

    def test_threshold_by_hand(self) -> None:
        """Thresholds above 2 have a = 1/4 and b = 1/2; above 1 the reverse; elsewhere one rate is zero."""
        upper, lower = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1.0, 2.0, 3.0])
        expected = max(math.log(0.75 - 1e-5) - math.log(0.5), math.log(0.5 - 1e-5) - math.log(0.25))
        assert scorer._single(upper, lower, scorer.epsilon_table(4)) == pytest.approx(expected)

    @settings(max_examples=8, deadline=None)
    @given(seed=st.integers(0, 10**6), shift=st.floats(0, 4), scale=st.floats(0.3, 3))
    def test_against_the_plain_formula(self, seed: int, shift: float, scale: float) -> None:
        """The result equals a loop over all attacks, and does not depend on the order of the samples."""
        rng = np.random.default_rng(seed)
        one, two = rng.normal(size=12), shift + scale * rng.normal(size=12)
        table = scorer.epsilon_table(12)
        value = scorer.epsilon(one, two, table)
        assert value == pytest.approx(plain(one, two))
        assert value == pytest.approx(scorer.epsilon(two, one, table))
        assert 0 <= value <= scorer.EPSILON_CAP

    def test_points(self) -> None:
        """Bins have width one half, and epsilons of ceil(log(95)) = 5 or more earn nothing."""
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
    """A stack of copies of the original, changed in place."""
    original = load_file(instance / "private/dev/inputs/model.safetensors")
    stack = {name: value.repeat(1, data.MODELS, 1, 1) for name, value in original.items()}
    change(stack)
    return stack


def first_world(path: Path) -> Tensors:
    """The tensors of the first world in a file."""
    return {name: value[0] for name, value in load_file(path).items()}


def judged(instance: Path, folder: Path, stack: Tensors) -> float:
    """The dev score of a stack."""
    save_file({name: value.contiguous() for name, value in stack.items()}, folder / FILE)
    value = scorer.score(folder, instance / "private/dev/answers").value
    assert value is not None
    return value


class TestArtefacts:
    """Invalid submissions are refused with a reason; hostile ones get a clear result."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda s: s.pop("b1"), r"missing \['b1'\]"),
            (lambda s: s.update(extra=torch.zeros(1)), r"extra \['extra'\]"),
            (lambda s: s.update(w0=s["w0"][:, :5].clone()), "w0"),
            (lambda s: s.update(w0=s["w0"].double()), "w0"),
            (lambda s: s["w1"][0, 3].fill_(torch.nan), "finite|NaN"),
            (lambda s: s["w1"][0, 3].fill_(torch.inf), "finite|NaN"),
            (
                lambda s: [s[n][0, 7].fill_(1e30) for n in ("w0", "w1", "w2")],
                "model 7 of world 0 .* NaN or infinite",
            ),
        ],
        ids=["missing", "extra", "few", "double", "nan", "infinite", "overflow"],
    )
    def test_invalid(
        self, change: Callable[[Tensors], object], message: str, instance: Path, tmp_path: Path
    ) -> None:
        """Each fault has its own error message."""
        with pytest.raises(SubmissionError, match=message):
            judged(instance, tmp_path, edited(instance, change))

    @pytest.mark.parametrize("content", [b"", b"x" * 100], ids=["empty", "garbage"])
    def test_not_safetensors(self, content: bytes, instance: Path, tmp_path: Path) -> None:
        """A file of another kind is refused."""
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(SubmissionError, match="not a safetensors file"):
            scorer.score(tmp_path, instance / "private/dev/answers")

    @pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
    def test_worthless(self, scale: float, instance: Path, tmp_path: Path) -> None:
        """All zero, plain copies and huge weights are valid and earn almost nothing."""
        stack = edited(instance, lambda s: [value.mul_(scale) for value in s.values()])
        assert judged(instance, tmp_path, stack) < 0.012


class TestInstance:
    """A real instance needs real unlearning."""

    def test_files(self, instance: Path) -> None:
        """Inputs have the form of the practice worlds; only answers have retrained models and the base."""
        names = {
            part: {path.name for path in (instance / part).iterdir()}
            for part in ("public", "private/dev/inputs", "private/test/answers")
        }
        inputs = {"model.safetensors", "sets.safetensors"}
        assert names["private/dev/inputs"] == inputs
        assert names["public"] == inputs | {"retrained.safetensors"}
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
                total += sets[name].shape[1]
                rows |= {row.numpy().tobytes() for row in sets[name][0]}
        for split in ("dev", "test"):
            hidden = load_file(instance / f"private/{split}/answers/judge.safetensors")["test_x"][0]
            total += len(hidden)
            rows |= {row.numpy().tobytes() for row in hidden}
        assert len(rows) == total

    def test_the_original_remembers(self, instance: Path) -> None:
        """Original and retrained models differ on the forget set, and are equally good on test images."""
        answers = instance / "private/dev/answers"
        judge = first_world(answers / "judge.safetensors")
        original = first_world(instance / "private/dev/inputs/model.safetensors")
        retrained = first_world(answers / "retrained.safetensors")

        def right(stack: Tensors, name: str) -> float:
            logits = scorer.forward(stack, judge[f"{name}_x"])
            return (logits.argmax(-1) == judge[f"{name}_y"]).float().mean().item()

        assert right(original, "forget") > 0.9
        assert right(retrained, "forget") < 0.6
        assert right(retrained, "retain") > 0.9
        assert right(original, "test") == pytest.approx(right(retrained, "test"), abs=0.06)

    def test_oracle(self, instance: Path, tmp_path: Path) -> None:
        """Retrained models that are judged against themselves get the full score: all attacks fail."""
        retrained = load_file(instance / "private/dev/answers/retrained.safetensors")
        assert judged(instance, tmp_path, retrained) == pytest.approx(1)

    @pytest.mark.slow
    def test_cheats(self, instance: Path, tmp_path: Path) -> None:
        """One good model with a little noise, or another world's retrained models, earn almost nothing."""
        retrained = load_file(instance / "private/dev/answers/retrained.safetensors")
        rng = torch.Generator().manual_seed(0)
        one = {
            name: value[:, :1] + 1e-3 * torch.randn(value.shape, generator=rng)
            for name, value in retrained.items()
        }
        assert judged(instance, tmp_path, one) < 0.02
        other = load_file(instance / "private/test/answers/retrained.safetensors")
        assert judged(instance, tmp_path, other) < 0.02


class TestBuild:
    """The files of an instance."""

    def test_another_seed_other_files(self, tmp_path: Path) -> None:
        """Every file of an instance changes with the seed."""
        build_tiny(tmp_path / "a", seed=7)
        build_tiny(tmp_path / "b", seed=8)
        files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.safetensors"))
        assert files
        for file in files:
            assert (tmp_path / "a" / file).read_bytes() != (tmp_path / "b" / file).read_bytes(), file


class TestStarter:
    """The entry point, and the agent's copies of model and metric."""

    @pytest.mark.slow
    def test_the_reference_gives_the_same_bits_twice(self, instance: Path, tmp_path: Path) -> None:
        """What it scores is a matter of the contract, which plays whole episodes."""
        files: list[Path] = []
        for name in ("one", "two"):
            place = self.workspace(HOME / "reference", instance, tmp_path / name)
            shutil.copytree(instance / "private/dev/inputs", place / "inputs")
            self.call(place, "predict")
            files.append(place / "artefacts" / FILE)
        assert files[0].read_bytes() == files[1].read_bytes()

    def test_practice(self, instance: Path, tmp_path: Path) -> None:
        """Without arguments, the starter prints a practice score."""
        place = self.workspace(STARTER, instance, tmp_path / "practice")
        assert "practice score 0." in self.call(place)

    def workspace(self, overlay: Path, instance: Path, place: Path) -> Path:
        """Make a workspace with an overlay's files."""
        shutil.copytree(STARTER, place, ignore=shutil.ignore_patterns("__pycache__"))
        for path in overlay.glob("*.py"):
            shutil.copy(path, place)
        (place / "data").symlink_to(instance / "public")
        return place

    def call(self, place: Path, *arguments: str) -> str:
        """Run main.py, and return what it prints."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "main.py", *arguments]
        done = subprocess.run(command, cwd=place, check=True, capture_output=True, text=True, env=environment)
        return done.stdout
