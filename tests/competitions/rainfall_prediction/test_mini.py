"""rainfall-prediction: the metric is the paper's, the generator keeps its promises, shortcuts do not pay."""

from __future__ import annotations

import dataclasses
import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlrcbench.catalog.competition import Competition
from mlrcbench.competitions.rainfall_prediction import data, scorer
from mlrcbench.errors import SubmissionError
from mlrcbench.score import SPLITS, Split
from tests.competitions.conftest import load_module

Array = npt.NDArray[Any]
HOME = Path(data.__file__).parent
ROOT = Path(__file__).parents[3]
PARTS = ("public", "private/dev/inputs", "private/dev/answers", "private/test/inputs", "private/test/answers")
NAN = float("nan")
RATES = st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0, 4.9, 5.0, 10.0, 12.0, 15.0, 40.0])


def judge(folder: Path, truth: Array, predicted: Array) -> Any:
    """Score `predicted` against `truth`, through files."""
    for name, rates in (("answers", truth), ("artefacts", predicted)):
        (folder / name).mkdir(exist_ok=True)
        np.save(folder / name / "rates.npy", rates)
    return scorer.score(folder / "artefacts", folder / "answers")


def grid(*rates: float) -> Array:
    """Rates as one sequence of one frame of one row, float32."""
    return np.array(rates, dtype=np.float32).reshape(1, 1, 1, -1)


class TestScore:
    """Mean CSI, compared with hand calculations."""

    def test_counts(self) -> None:
        """At 1 mm/h there are one hit, two misses and one false alarm; NaN does not count."""
        truth, predicted = grid(2, 1, 6, 0, 0, NAN, NAN), grid(1, 0.9, 0, 3, 0.2, 50, 0)
        counts = scorer.contingency(truth, predicted)
        assert counts[1].tolist() == [1, 2, 1]
        assert counts[0].tolist() == [2, 1, 2]
        assert counts[2].tolist() == [0, 1, 0]

    def test_value(self, tmp_path: Path) -> None:
        """The mean of CSI 2/5, 1/4, 0/1, and 0 for two thresholds that no rate reaches."""
        truth, predicted = grid(2, 1, 6, 0, 0, NAN, NAN), grid(1, 0.9, 0, 3, 0.2, 50, 0)
        score = judge(tmp_path, truth, predicted)
        assert score.value == pytest.approx((2 / 5 + 1 / 4) / 5)
        assert score.details["csi_0.2"] == pytest.approx(2 / 5)
        assert score.details["csi_15"] == 0.0

    def test_thresholds_are_inclusive(self) -> None:
        """A rate of exactly 0.2 mm/h is rain, although 0.2 is not a float32."""
        assert scorer.contingency(grid(0.2), grid(0.2))[0].tolist() == [1, 0, 0]

    def test_pooled(self, tmp_path: Path) -> None:
        """Counts are summed before they are divided, also over the chunks that bound memory."""
        truth = np.zeros((40, 1, 1, 2), dtype=np.float32)
        predicted = truth.copy()
        truth[0], predicted[:10] = 20, 20
        assert judge(tmp_path, truth, predicted).value == pytest.approx(2 / 20)

    def test_yardstick(self, tmp_path: Path) -> None:
        """Heavy rain everywhere scores, at each threshold, the share of pixels that reach it."""
        truth = grid(0, 0.3, 2, 20)
        score = judge(tmp_path, truth, np.zeros_like(truth))
        assert score.value == 0.0
        assert score.details["heavy_rain_everywhere"] == pytest.approx((3 / 4 + 2 / 4 + 3 / 4) / 5)

    @settings(max_examples=40)
    @given(
        hnp.arrays(np.float32, (2, 2, 3, 3), elements=RATES),
        hnp.arrays(np.float32, (2, 2, 3, 3), elements=RATES),
    )
    def test_against_the_formula(self, truth: Array, predicted: Array) -> None:
        """Counting pixel by pixel gives the same numbers; bounds hold, and the truth is best."""
        values = scorer.csi(scorer.contingency(truth, predicted))
        for threshold, value in zip(scorer.THRESHOLDS, values, strict=True):
            pairs = [
                (a >= np.float32(threshold), b >= np.float32(threshold))
                for a, b in zip(truth.ravel(), predicted.ravel(), strict=True)
            ]
            rainy = sum(a or b for a, b in pairs)
            assert value == pytest.approx(sum(a and b for a, b in pairs) / rainy if rainy else 0.0)
            assert 0 <= value <= 1
        best = scorer.csi(scorer.contingency(truth, truth))
        assert all(one >= other for one, other in zip(best, values, strict=True))

    @settings(max_examples=20)
    @given(hnp.arrays(np.float32, (1, 2, 3, 3), elements=RATES), st.randoms(use_true_random=False))
    def test_masked_pixels_are_free(self, truth: Array, random: Any) -> None:
        """Predictions where nothing was measured have no effect."""
        truth[..., 0] = np.nan
        predicted = np.full_like(truth, 3)
        before = scorer.contingency(truth, predicted)
        predicted[..., 0] = random.choice([0.0, 7.0, 99.0])
        assert np.array_equal(scorer.contingency(truth, predicted), before)


class TestRefusals:
    """Each kind of invalid artefact is refused, and the reason says what to write."""

    @pytest.mark.parametrize(
        ("predicted", "message"),
        [
            (grid(0, -0.1), "1 negative rates"),
            (grid(0, NAN), "NaN or infinity"),
            (grid(0, np.inf), "NaN or infinity"),
            (grid(0, 0, 0), "it must be"),
            (grid(0, 0)[0], "it must be"),
            (grid(0, 0).astype(np.float64), "dtype '<f8'; it must be '<f4'"),
            (grid(0, 0).astype(np.int32), "dtype '<i4'; it must be '<f4'"),
            (np.array([[[["a", "b"]]]]), "must be '<f4'"),
        ],
    )
    def test_array(self, predicted: Array, message: str, tmp_path: Path) -> None:
        """Sign, finiteness, shape and dtype are checked."""
        with pytest.raises(SubmissionError, match=message):
            judge(tmp_path, grid(1, 0), predicted)

    @pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"rain"])
    def test_bytes(self, content: bytes, tmp_path: Path) -> None:
        """A file that is not an array is refused."""
        judge(tmp_path, grid(1, 0), grid(1, 0))
        (tmp_path / "artefacts/rates.npy").write_bytes(content)
        with pytest.raises(SubmissionError, match=r"not a \.npy file"):
            scorer.score(tmp_path / "artefacts", tmp_path / "answers")

    def test_cut_short(self, tmp_path: Path) -> None:
        """A file that ends early is refused."""
        judge(tmp_path, grid(1, 0), grid(1, 0))
        path = tmp_path / "artefacts/rates.npy"
        path.write_bytes(path.read_bytes()[:-4])
        with pytest.raises(SubmissionError, match="holds 4 bytes"):
            scorer.score(tmp_path / "artefacts", tmp_path / "answers")


def build(root: Path, seed: int, **sizes: int) -> Path:
    """Build an instance, with other sizes if they are given."""
    for part in PARTS:
        (root / part).mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, size in sizes.items():
            patch.setattr(data, name, size)
        data.build(root / "public", root / "private", seed=seed, tier="mini")
    return root


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance with a quarter of the sequences."""
    return build(tmp_path_factory.mktemp("rainfall"), seed=7, TRAINING=400, SEQUENCES=220)


def truth(instance: Path, split: str) -> Array:
    """The measured rates of a split."""
    rates: Array = np.load(instance / "private" / split / "answers/rates.npy")
    return rates


class TestBuild:
    """The files of an instance."""

    def test_files(self, instance: Path) -> None:
        """Names, shapes and dtypes are those of the statement, apart from the numbers of sequences."""
        assert (data.TRAINING, data.SEQUENCES) == (1600, 900)
        forms = {
            "public/train.reflbt.npy": ((400, 4, 11, 16, 16), np.float16),
            "public/train.rates.npy": ((400, 10, 16, 16), np.float32),
        }
        for split in ("dev", "test"):
            forms[f"private/{split}/inputs/reflbt.npy"] = ((220, 4, 11, 16, 16), np.float16)
            forms[f"private/{split}/answers/rates.npy"] = ((220, 6, 16, 16), np.float32)
        assert {str(path.relative_to(instance)) for path in instance.rglob("*.npy")} == set(forms)
        for name, (shape, dtype) in forms.items():
            array = np.load(instance / name, mmap_mode="r")
            assert array.shape == shape
            assert array.dtype == dtype

    @pytest.mark.parametrize("split", ["train", "dev", "test"])
    def test_thresholds_are_reached_equally_often(self, instance: Path, split: str) -> None:
        """The share of rates at each threshold is that of the curve, up to frames that are not scored."""
        rates = np.load(instance / "public/train.rates.npy") if split == "train" else truth(instance, split)
        known = rates[~np.isnan(rates)]
        assert not np.any((known > 0) & (known < np.float32(0.2)))
        for rate, share in data.CURVE[:-1]:
            assert np.mean(known >= np.float32(rate)) == pytest.approx(share, rel=0.25)

    def test_the_curve_is_exact(self) -> None:
        """Mapping by rank keeps the order, gives exact shares, and sets blocked pixels to NaN."""
        rain = (
            np.random.default_rng(0).permutation(50 * 4 * 24 * 24).astype(np.float32).reshape(50, 4, 24, 24)
        )
        blocked = np.zeros((24, 24), dtype=bool)
        blocked[3:5] = True
        mapped = data.to_curve(rain, blocked)
        assert np.isnan(mapped[:, :, blocked]).all()
        before, after = rain[:, :, ~blocked].ravel(), mapped[:, :, ~blocked].ravel()
        assert np.all(np.diff(after[np.argsort(before)]) >= 0)
        for rate, share in data.CURVE[:-1]:
            assert np.mean(after >= np.float32(rate)) == pytest.approx(share, abs=1e-4)

    def test_blocked_pixels_are_the_same_everywhere(self, instance: Path) -> None:
        """The blind sector of the radar is a small part of the target, and always the same."""
        masks = [np.isnan(np.load(instance / "public/train.rates.npy"))]
        masks += [np.isnan(truth(instance, split)) for split in ("dev", "test")]
        for mask in masks:
            assert np.array_equal(mask.all((0, 1)), masks[0].all((0, 1)))
            assert np.array_equal(mask.all((0, 1)), mask.any((0, 1)))
        assert 0.02 < masks[0].mean() < 0.2

    def test_the_test_year_has_drifted(self, instance: Path) -> None:
        """Window bands, which see the same, drift against each other in the test year only."""
        window = [data.BANDS.index(name) for name in ("IR_087", "IR_108", "IR_120")]
        train, dev, test = (
            np.load(instance / name, mmap_mode="r")[:, :4, window].astype(np.float32).mean((0, 1, 3, 4))
            for name in (
                "public/train.reflbt.npy",
                *(f"private/{split}/inputs/reflbt.npy" for split in SPLITS),
            )
        )
        assert np.ptp(test - dev) > 2 * np.ptp(dev - train)

    @given(st.integers(0, 2**63 - 1))
    def test_years(self, seed: int) -> None:
        """Without drift no band has an offset; with drift, each has one of 0.7 to 1.5 units."""
        region = data.make_law(np.random.default_rng([seed, 0]))
        first, second = (
            data.make_year(np.random.default_rng([seed, 1]), region, drift=drift) for drift in (0, 1)
        )
        assert np.all(first.gain == 1)
        assert np.all(first.offset == 0)
        assert np.array_equal(first.wind, region.wind)
        assert np.all((np.abs(second.offset) >= 0.7) & (np.abs(second.offset) <= 1.5))
        assert np.hypot(*region.wind) == pytest.approx(data.SPEED)

    @settings(max_examples=20)
    @given(st.integers(0, 2**63 - 1))
    def test_the_law_belongs_to_the_instance(self, seed: int) -> None:
        """No part of the law is the same for two seeds, while the sizes of effects are."""
        one, other = (data.make_law(np.random.default_rng([seed, number])) for number in (0, 1))
        for part in dataclasses.fields(data.Law):
            if part.name != "noise":
                assert not np.array_equal(getattr(one, part.name), getattr(other, part.name)), part.name
        moist = np.random.default_rng(0).standard_normal((200, 200))
        hours = np.linspace(0, 24, 100, endpoint=False)[:, None, None]
        for each in (one, other):
            assert np.hypot(*each.trail) == pytest.approx(data.TRAIL)
            prints = each.thermal[:, 5:]
            assert prints.T @ prints == pytest.approx(data.PRINT**2 * np.eye(3), abs=1e-6)
            assert prints.T @ each.thermal[:, 2:5] == pytest.approx(np.zeros((3, 3)), abs=1e-6)
            assert each.favour(moist[0], hours).std(0).mean() == pytest.approx(data.FAVOUR, rel=0.01)

    @given(st.integers(0, 2**63 - 1))
    def test_bands_of_other_worlds_mislead(self, seed: int) -> None:
        """The combination of bands that shows thick cloud in one world is another one in the next."""
        one, other = (data.make_law(np.random.default_rng([seed, number])).thermal[:, 6] for number in (0, 1))
        assert abs(one @ other) < 0.999 * data.PRINT**2

    def test_sequences_are_not_continued(self, instance: Path) -> None:
        """No sequence begins where another ends: such pairs differ by more than one time step."""
        window = np.load(instance / "private/dev/inputs/reflbt.npy", mmap_mode="r")[:, :, 4].astype(
            np.float32
        )
        first, last = window[:, 0].reshape(len(window), -1), window[:, -1].reshape(len(window), -1)
        square = (first**2).sum(1)[None] + (last**2).sum(1)[:, None] - 2 * last @ first.T
        np.fill_diagonal(square, np.inf)
        step = ((window[:, 1] - window[:, 0]) ** 2).sum((1, 2))
        assert square.min() > np.median(step)

    def test_another_seed_another_weather(self, tmp_path: Path) -> None:
        """Every file changes with the seed."""
        one, other = (build(tmp_path / str(seed), seed, TRAINING=6, SEQUENCES=4) for seed in (7, 8))
        files = [str(path.relative_to(one)) for path in one.rglob("*.npy")]
        assert filecmp.cmpfiles(one, other, files, shallow=False)[0] == []


def bounds() -> ModuleType:
    """The writers of artefacts in the tables of the documentation."""
    return load_module(ROOT / "calibration/rainfall_prediction/methods/bounds.py")


class TestShortcuts:
    """Artefacts that need no forecast score less than the baseline; the truth scores one."""

    @pytest.mark.parametrize("split", ["dev", "test"])
    @pytest.mark.parametrize(
        "name",
        [
            "nothing: no rain",
            "20 mm/h everywhere",
            "best constant per pixel",
            "permuted rain of the training year",
            "cold cloud of the last frame",
        ],
    )
    def test_shortcuts(self, name: str, split: Split, instance: Path, tmp_path: Path) -> None:
        """Constants, climatology, rain of other days and coldness by rank score far below the baseline."""
        assert self.value(name, split, instance, tmp_path) < 0.8 * self.anchor(split)

    def test_truth(self, instance: Path, tmp_path: Path) -> None:
        """The answers score one; on the satellite's grid they score less."""
        assert self.value("truth", "test", instance, tmp_path) == 1.0
        assert 0.3 < self.value("truth on the satellite's grid", "test", instance, tmp_path) < 0.9

    def anchor(self, split: Split) -> float:
        """The baseline's mean over the calibrated instances."""
        return Competition(HOME).card.tier("mini").anchors[split].baseline.value

    def value(self, name: str, split: str, instance: Path, place: Path) -> float:
        """The score of a writer's artefacts."""
        folder = instance / "private" / split
        bounds().BOUNDS[name](instance / "public", folder / "inputs", folder / "answers", place)
        value = scorer.score(place, folder / "answers").value
        assert value is not None
        return value


class TestStarter:
    """The entry point, on an instance that is too small to learn from."""

    @pytest.mark.parametrize("overlay", ["baseline", "reference"])
    def test_predict_writes_what_can_be_scored(self, overlay: str, instance: Path, tmp_path: Path) -> None:
        """The artefact keeps every rule."""
        artefacts = self.run(overlay, instance, tmp_path / "run", "predict")
        assert scorer.score(artefacts, instance / "private/test/answers").value is not None

    def test_same_metric(self, instance: Path) -> None:
        """The starter's CSI is the scorer's."""
        dataset = load_module(HOME / "starter/dataset.py")
        rates = truth(instance, "dev")
        predicted = np.nan_to_num(rates[::-1])
        theirs = dataset.csi(rates, predicted)
        assert tuple(theirs) == scorer.THRESHOLDS
        assert list(theirs.values()) == pytest.approx(scorer.csi(scorer.contingency(rates, predicted)))

    def run(self, overlay: str, instance: Path, place: Path, *arguments: str) -> Path:
        """Run `main.py` as an evaluation does, and return its artefacts."""
        place.mkdir()
        for path in (path for name in ("starter", overlay) for path in (HOME / name).glob("*.py")):
            shutil.copy(path, place)
        (place / "data").symlink_to(instance / "public")
        (place / "inputs").symlink_to(instance / "private/test/inputs")
        (place / "artefacts").mkdir()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "main.py", *arguments]
        subprocess.run(command, cwd=place, check=True, capture_output=True, env=environment)
        return place / "artefacts"
