"""rainfall-prediction's full tier, from the organisers' files to a score on test."""

from __future__ import annotations

import csv
import os
import re
import runpy
import shutil
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

import mlrcbench
from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.prepare import prepare_real
from mlrcbench.competitions.rainfall_prediction import full, scorer, scorer_full
from mlrcbench.errors import DataError, SubmissionError
from tests.competitions.conftest import play_starter, run_conversion

Array = npt.NDArray[Any]
SIDE = 36  # pixels; the real pictures have 252
WINDOW = 36
RUNS = (40, 38)  # training frames before and after a gap
SEQUENCES = 2
TRAIN = "2019/HRIT/boxi_0015.train.reflbt0.ns.h5"
TRAIN_RATES = "2019/OPERA/boxi_0015.train.rates.crop.h5"
TEST = "2020/HRIT/boxi_0015.val.reflbt0.ns.h5"
TEST_RATES = "2020/OPERA/boxi_0015.val.rates.crop.h5"
COLUMNS = ["date", "date_str", "time", "split", "split_type", "all_vars"]


def write(path: Path, key: str, values: Array) -> None:
    """Write an HDF5 file, compressed frame by frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset(key, data=values, chunks=(1, *values.shape[1:]), compression="gzip")


def write_table(path: Path, columns: list[str], rows: list[list[str]]) -> None:
    """Write the table of times."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def times() -> list[list[str]]:
    """Rows of the table, in no order: the training frames of 2019, and other frames."""
    first, rows = np.datetime64("2019-02-13T23:00"), []
    for run, start in zip(RUNS, (0, 100), strict=True):
        for step in range(start, start + run):
            day, clock = str(first + step * np.timedelta64(15, "m")).replace("-", "").split("T")
            number = str(int(clock.replace(":", "") + "00"))  # a quarter past midnight is 1500
            rows.append([day, day, number, "training", "training", "1"])
    rows += [["2019", "20190301", "0", "training", "training", "0"]]
    rows += [["2019", "20190302", "0", "validation", "validation_in", "1"]]
    rows += [["2020", "20200302", "0", "training", "training", "1"]]
    return rows[::-1]


def pictures(frames: int) -> Array:
    """Random pictures with the organisers' means and standard deviations."""
    random, bands = np.random.default_rng(frames), np.array(list(full.BANDS.values()), dtype=np.float32)
    noise = random.standard_normal((frames, len(bands), SIDE, SIDE)).astype(np.float32)
    return bands[:, 2, None, None] + bands[:, 3, None, None] * noise


def rain(images: Array) -> Array:
    """Rates that follow the brightness of the middle, with every code that the radar uses."""
    edge = (SIDE - SIDE // 6) // 2
    middle = (images[:, 4, edge:-edge, edge:-edge] - 270) / 18
    rates = np.kron(np.maximum(8 * middle, 0), np.ones((6, 6), dtype=np.float32)).astype(np.float32)
    rates[:, 0, :6] = [np.nan, np.inf, -np.inf, full.NO_DATA, 130.0, -8888000.0]
    rates[:, 1, :3] = [0.1, 0.2, 128.0]
    return rates


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small versions of the organisers' files; validation rates have an axis for one band."""
    folder = tmp_path_factory.mktemp("weather4cast")
    images = pictures(sum(RUNS))
    images[0, 0, 0, :3] = [np.nan, np.inf, 7.0]
    write(folder / TRAIN, "REFL-BT", images)
    write(folder / TRAIN_RATES, "rates.crop", rain(images))
    for number, year in enumerate(("2019", "2020")):
        images = pictures(WINDOW * SEQUENCES + number * WINDOW)
        write(folder / year / "HRIT" / Path(TEST).name, "REFL-BT", images)
        write(folder / year / "OPERA" / Path(TEST_RATES).name, "rates.crop", rain(images)[:, None])
    write_table(folder / full.SPLITS, COLUMNS, times())
    return folder


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    """Links to these files, so that a test may replace some."""
    for path in original.rglob("*.*"):
        target = tmp_path / "data/some/where" / path.relative_to(original)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    return tmp_path / "data/some/where"


def convert(data: Path, target: Path) -> Path:
    """Run the conversion by itself."""
    raw = target / "raw"
    raw.mkdir(parents=True)
    (raw / full.SOURCE).symlink_to(data)
    return run_conversion(full, raw, target)


def replaced(path: Path, key: str, change: Callable[[Array], Array]) -> None:
    """Write an HDF5 file again, with other values."""
    with h5py.File(path) as file:
        values = file[key][:]
    path.unlink()
    write(path, key, change(values))


class TestConvert:
    """The conversion of the organisers' files into the layout that the starter reads."""

    def test_training_year(self, data: Path, tmp_path: Path) -> None:
        """One period in the files' order, standardised, with clean float32 rates; no window spans the gap."""
        made = convert(data, tmp_path / "made")
        images, rates = (np.load(made / f"public/train.{name}.npy") for name in ("reflbt", "rates"))
        assert (images.dtype, images.shape) == (np.float16, (1, sum(RUNS), 11, SIDE, SIDE))
        assert (rates.dtype, rates.shape) == (np.float32, (1, sum(RUNS), SIDE, SIDE))
        with h5py.File(data / TRAIN) as file:
            raw = file["REFL-BT"][:]
        for band, name in enumerate(full.BANDS):
            low, high, mean, sd = full.BANDS[name]
            expected = (np.clip(raw[1:, band], low, high) - mean) / sd
            assert np.abs(images[0, 1:, band] - expected).max() < 0.01
        zero, top = ((value - full.BANDS["IR_016"][2]) / full.BANDS["IR_016"][3] for value in (0.0, 1.02))
        assert images[0, 0, 0, 0, :3] == pytest.approx([zero, zero, top], abs=0.01)
        starts = np.load(made / "public/train.starts.npy")
        assert starts.tolist() == [*range(RUNS[0] - WINDOW + 1), *range(RUNS[0], sum(RUNS) - WINDOW + 1)]

    def test_codes_of_the_radar(self, data: Path, tmp_path: Path) -> None:
        """Rates not measured or above 128 are NaN; no rain or below 0.2 is 0; 0.2 mm/h itself is rain."""
        rates = np.load(convert(data, tmp_path / "made") / "public/train.rates.npy")
        assert np.isnan(rates[:, :, 0, :5]).all()
        assert (rates[:, :, 0, 5] == 0).all()
        assert (rates[:, :, 1, :3] == np.array([0, 0.2, 128], dtype=np.float32)).all()
        assert np.isnan(rates).sum() == 5 * sum(RUNS)

    def test_sequences(self, data: Path, tmp_path: Path) -> None:
        """Inputs are only the first four pictures of each sequence; answers are the 32 frames that follow."""
        made = convert(data, tmp_path / "made")
        for split, count in (("dev", SEQUENCES), ("test", SEQUENCES + 1)):
            folder = made / "private" / split
            images, rates = np.load(folder / "inputs/reflbt.npy"), np.load(folder / "answers/rates.npy")
            assert [path.name for path in (folder / "inputs").iterdir()] == ["reflbt.npy"]
            assert (images.shape, rates.shape) == ((count, 4, 11, SIDE, SIDE), (count, 32, SIDE, SIDE))
            with h5py.File(data / full.YEARS[split] / "HRIT" / Path(TEST).name) as file:
                raw = file["REFL-BT"][:].reshape(count, WINDOW, 11, SIDE, SIDE)
            assert np.array_equal(
                images.reshape(-1, 11, SIDE, SIDE), full.standardised(np.concatenate(raw[:, :4]))
            )
            assert np.array_equal(rates[1], full.cleaned(rain(raw[1, 4:])), equal_nan=True)

    def test_without_h5py(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A sentence says how to install it."""
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(DataError, match=r"pip install 'mlrcbench\[full\]'"):
            runpy.run_path(full.__file__)

    def test_chunks_change_nothing(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The files do not depend on how many frames are read at a time."""
        whole = convert(data, tmp_path / "whole") / "public"
        monkeypatch.setattr(full, "CHUNK", 7)
        parts = convert(data, tmp_path / "parts") / "public"
        for name in ("train.reflbt.npy", "train.rates.npy"):
            assert (whole / name).read_bytes() == (parts / name).read_bytes()

    @pytest.mark.parametrize(
        ("name", "change", "reason"),
        [
            (TRAIN, lambda x: x[1:], "rates of shape .* but .* has 77 pictures"),
            (TRAIN, lambda x: x[:, :10], "must hold .frames, 11 bands"),
            (TRAIN, lambda x: x[..., :30], "must hold .frames, 11 bands"),
            (TRAIN, lambda x: x[..., :30, :30], "side a multiple of 12"),
            (TRAIN, lambda x: x.astype("S1"), "not an array of numbers"),
            (TRAIN_RATES, lambda x: np.full_like(x, full.NO_DATA), "no rate that the radar has measured"),
            (TEST_RATES, lambda x: x[:, :, 1:], "take both from the same year"),
            (TEST_RATES, lambda x: np.full_like(x, np.nan), "no rate that the radar has measured"),
        ],
    )
    def test_contradictory_files(
        self, data: Path, tmp_path: Path, name: str, change: Callable[[Array], Array], reason: str
    ) -> None:
        """A sentence names the files and says what to do."""
        replaced(data / name, "REFL-BT" if "HRIT" in name else "rates.crop", change)
        with pytest.raises(DataError, match=reason):
            convert(data, tmp_path / "made")

    def test_no_whole_sequences(self, data: Path, tmp_path: Path) -> None:
        """A file whose sequences do not have 36 frames each is refused."""
        replaced(data / TEST, "REFL-BT", lambda x: x[:-1])
        replaced(data / TEST_RATES, "rates.crop", lambda x: x[:-1])
        with pytest.raises(DataError, match="not a multiple of 36; download it again"):
            convert(data, tmp_path / "made")

    @pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
    def test_truncated_file(self, data: Path, tmp_path: Path, share: float) -> None:
        """A download that was cut off at any place is refused."""
        content = (data / TRAIN).read_bytes()
        (data / TRAIN).unlink()
        (data / TRAIN).write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match=r"cannot be read as HDF5 .*download it again"):
            convert(data, tmp_path / "made")

    def test_damaged_file(self, data: Path, tmp_path: Path) -> None:
        """A compressed frame that cannot be unpacked is reported when it is read."""
        with h5py.File(data / TRAIN) as file:
            place = file["REFL-BT"].id.get_chunk_info(20).byte_offset
        content = bytearray((data / TRAIN).read_bytes())
        content[place : place + 100] = bytes(100)
        (data / TRAIN).unlink()
        (data / TRAIN).write_bytes(content)
        with pytest.raises(DataError, match=r"cannot be read as HDF5 .*download it again"):
            convert(data, tmp_path / "made")

    def test_files_that_point_elsewhere(self, data: Path, tmp_path: Path) -> None:
        """Only data in the file itself is read."""
        secret = tmp_path / "secret"
        secret.write_bytes(bytes(10_000_000))
        (data / TRAIN).unlink()
        with h5py.File(data / TRAIN, "w") as file:
            file["REFL-BT"] = h5py.ExternalLink(data / TEST, "REFL-BT")
        with pytest.raises(DataError, match="does not itself hold a dataset 'REFL-BT'"):
            convert(data, tmp_path / "linked")
        shape = (sum(RUNS), 11, SIDE, SIDE)
        with h5py.File(data / TRAIN, "w") as file:
            file.create_dataset("REFL-BT", shape, "f4", external=[(secret, 0, h5py.h5f.UNLIMITED)])
        with pytest.raises(DataError, match="points into other files"):
            convert(data, tmp_path / "external")
        with h5py.File(data / TRAIN, "w") as file:
            file["refl"] = np.zeros(shape[:1])
        with pytest.raises(DataError, match=r"does not itself hold a dataset 'REFL-BT'; it holds \['refl'\]"):
            convert(data, tmp_path / "other")

    @pytest.mark.parametrize(
        ("columns", "rows", "reason"),
        [
            (COLUMNS, times()[:-1], "has 77 training frames of 2019, but the satellite's file has 78"),
            (["date_str", "time", "split"], [], "has 0 training frames"),
            (["date_str", "time"], [["20190213", "0"]], "lacks the column 'split'"),
            (COLUMNS, [["", "2019", "x", "training", "", "1"]], "is not a valid table of times"),
            (COLUMNS, [["", "20190213", "0", "training"]], "is not a valid table of times"),
            (
                COLUMNS,
                [["", f"2019{n // 28 + 1:02}{n % 28 + 1:02}", "0", "training", "", "1"] for n in range(78)],
                "no 36 training frames of 2019 without a gap",
            ),
        ],
    )
    def test_wrong_table(
        self, data: Path, tmp_path: Path, columns: list[str], rows: list[list[str]], reason: str
    ) -> None:
        """A sentence names the table."""
        (data / full.SPLITS).unlink()
        write_table(data / full.SPLITS, columns, rows)
        with pytest.raises(DataError, match=reason):
            convert(data, tmp_path / "made")

    @pytest.mark.parametrize(
        ("minutes", "starts"),
        [
            ([*range(0, 36 * 15, 15)], [0]),
            ([*range(0, 35 * 15, 15)], None),
            ([*range(0, 20 * 15, 15), *range(19 * 15, 36 * 15, 15)], None),
            ([0, *range(0, 37 * 15, 15)], [1, 2]),
        ],
        ids=["one window", "one frame less", "a frame twice", "the first twice"],
    )
    def test_windows(self, tmp_path: Path, minutes: list[int], starts: list[int] | None) -> None:
        """A window has 36 frames, each 15 minutes after the previous one."""
        path = tmp_path / full.SPLITS
        write_table(
            path,
            COLUMNS,
            [["", "20190213", f"{m // 60:02}{m % 60:02}00", "training", "", "1.0"] for m in minutes],
        )
        if starts is None:
            with pytest.raises(DataError, match="no 36 training frames"):
                full.read_starts(path, "2019", len(minutes))
        else:
            assert full.read_starts(path, "2019", len(minutes)).tolist() == starts


class TestScore:
    """The full tier's scorer equals the mini tier's, with one sequence in memory at a time."""

    @staticmethod
    def files(folder: Path, truth: Array, predicted: Array) -> tuple[Path, Path]:
        """Write artefacts and answers, and return their folders."""
        for name, rates in (("artefacts", predicted), ("answers", truth)):
            (folder / name).mkdir(exist_ok=True)
            np.save(folder / name / "rates.npy", rates)
        return folder / "artefacts", folder / "answers"

    def test_same_as_mini(self, tmp_path: Path) -> None:
        """Value and details are the same, also with NaN."""
        random = np.random.default_rng(0)
        truth, predicted = random.gamma(0.3, 8, (2, 5, 3, 12, 12)).astype(np.float32)
        truth[1, :, 3] = np.nan
        artefacts, answers = self.files(tmp_path, truth, predicted)
        score = scorer_full.score(artefacts, answers)
        assert score.value is not None
        assert score.value > 0
        assert score == scorer.score(artefacts, answers)

    def test_memory(self, tmp_path: Path) -> None:
        """It uses less memory than a third of either file, which has thirty sequences."""
        rates = np.ones((30, 8, 60, 60), dtype=np.float32)
        artefacts, answers = self.files(tmp_path, rates, rates)
        tracemalloc.start()
        try:
            assert scorer_full.score(artefacts, answers).value == pytest.approx(2 / 5)
            assert tracemalloc.get_traced_memory()[1] < rates.nbytes / 3
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize(
        ("place", "value", "reason"),
        [
            (1, np.nan, "NaN or infinity in sequence 1"),
            (0, np.inf, "NaN or infinity in sequence 0"),
            (1, -0.1, "negative rates in sequence 1"),
        ],
    )
    def test_refusals(self, tmp_path: Path, place: int, value: float, reason: str) -> None:
        """Each refusal names the first wrong sequence, also where the radar has not measured."""
        truth = np.full((2, 1, 2, 2), np.nan, dtype=np.float32)
        predicted = np.zeros_like(truth)
        predicted[place, 0, 1, 1] = value
        with pytest.raises(SubmissionError, match=reason):
            scorer_full.score(*self.files(tmp_path, truth, predicted))

    @pytest.mark.parametrize(
        "predicted", [np.zeros((1, 1, 2, 2), "f4"), np.zeros((2, 1, 2, 2)), np.zeros((2, 1, 2, 2), ">f4")]
    )
    def test_another_array(self, tmp_path: Path, predicted: Array) -> None:
        """Shape and type are checked before anything is read."""
        with pytest.raises(SubmissionError, match="it must be"):
            scorer_full.score(*self.files(tmp_path, np.zeros((2, 1, 2, 2), dtype=np.float32), predicted))


@pytest.fixture
def competition(tmp_path: Path, fresh: Path) -> Competition:
    """The shipped competition, with less disk space required."""
    folder = tmp_path / "rainfall_prediction"
    shipped = mlrcbench.get_competition("rainfall-prediction").folder
    shutil.copytree(shipped, folder, ignore=shutil.ignore_patterns("__pycache__"))
    card = (folder / "card.toml").read_text()
    assert card.count("disk_bytes = 55000000000") == 1
    (folder / "card.toml").write_text(card.replace("disk_bytes = 55000000000", "disk_bytes = 1000000"))
    return Competition(folder)


@pytest.mark.slow
def test_from_a_folder_to_a_score(
    competition: Competition, fresh: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps without data, names of missing files, then an instance that the starter is scored on."""
    with pytest.raises(DataError, match=r"weather4cast\.net(.|\n)*" + re.escape(TRAIN)):
        prepare_real(competition)
    (data / TEST).rename(data / "elsewhere.h5")
    with pytest.raises(DataError, match=rf"- {re.escape(TEST)} \(weather4cast\)"):
        prepare_real(competition, data=data.parent)
    (data / "elsewhere.h5").rename(data / TEST)
    instance = prepare_real(competition, data=data.parent, quiet=True)
    assert instance.root.is_relative_to(fresh)
    score = play_starter(competition, fresh / "records", monkeypatch)
    assert score.value is not None
    assert 0 < score.value < 1
    assert score.details["heavy_rain_everywhere"] > 0


@pytest.mark.slow
def test_the_quick_experiment(competition: Competition, fresh: Path, data: Path) -> None:
    """`python main.py` learns from the beginning of the year and predicts windows at its end."""
    prepare_real(competition, data=data, quiet=True)
    with mlrcbench.make(competition, tier="full", records=fresh / "records") as env:
        env.reset(seed=0)
        run = mlrcbench.Run("sed -i 's/^HELD_OUT = .*/HELD_OUT = 0.5/' main.py; python main.py")
        observation, *_ = env.step(run)
    assert "windows of the last 39 frames held out" in observation["text"]
    assert "20 mm/h everywhere: mean CSI" in observation["text"]
