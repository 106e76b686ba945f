"""The full tier: Weather4cast 2023 in one region, with 2019 for training and 2020 for test.

The organisers' files are HDF5: for each year, pictures and rain rates of single frames, 15 minutes apart,
and one table that says when each was taken. A year of pictures takes 57 GB, so everything is read and written
`CHUNK` frames at a time.

- Bands are clipped and standardised with the numbers of the organisers' configuration, which are also fixed
  in the benchmark, and stored as float16. For brightness in K, float16 would leave steps of a quarter degree;
  for standardised values it leaves steps of a hundredth.
- Rates stay float32, because 0.2 mm/h, the lowest threshold, is below itself as float16.
- Validation files also have the satellite's pictures of the 32 frames to predict; those are left out.
- The year has gaps, where validation and test sequences were taken out. `train.starts.npy` lists where 36
  frames without a gap begin.
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlrcbench.errors import DataError
from mlrcbench.sources.raw import find

try:
    import h5py
except ImportError:
    raise DataError(
        "Weather4cast's files are HDF5, which needs h5py: pip install 'mlrcbench[full]'"
    ) from None

Array = npt.NDArray[Any]

SOURCE, REGION = "weather4cast", "boxi_0015"
TRAIN_YEAR = "2019"
YEARS = {"dev": "2019", "test": "2020"}  # the year whose validation sequences are scored
SPLITS = "timestamps_and_splits_stage2.csv"
PICTURES, RATES = "REFL-BT", "rates.crop"  # datasets in the files
SEEN, AHEAD, ZOOM = 4, 32, 6
CHUNK = 16  # frames in memory at a time
STEP = np.timedelta64(15, "m")

# Lowest and highest value for clipping, mean and standard deviation, over all regions and both years, in
# reflectance or K: Weather4cast 2023 starter kit, models/configurations/config_baseline_w4c23.yaml.
BANDS = {
    "IR_016": (0.0, 1.02, 0.06605569, 0.09920627),
    "IR_039": (0.0, 350.0, 273.2187, 15.98847),
    "IR_087": (0.0, 350.0, 268.3977, 17.49075),
    "IR_097": (0.0, 350.0, 246.1366, 10.81174),
    "IR_108": (0.0, 350.0, 270.1535, 18.49373),
    "IR_120": (0.0, 350.0, 268.7993, 18.42736),
    "IR_134": (0.0, 350.0, 250.6491, 11.70623),
    "VIS006": (0.0, 1.02, 0.06711527, 0.1101766),
    "VIS008": (0.0, 1.2, 0.08736397, 0.1326554),
    "WV_062": (0.0, 300.0, 232.1964, 5.531017),
    "WV_073": (0.0, 300.0, 248.0414, 9.495061),
}
NO_DATA = -9999000.0  # code for rates that the radar has not measured
LOWEST, HIGHEST = 0.2, 128.0  # mm/h: below LOWEST it does not rain; above HIGHEST is a radar error

_LOW, _HIGH, _MEAN, _SD = np.array(list(BANDS.values()), dtype=np.float32).T[:, :, None, None]


def convert(raw: Path, public: Path, private: Path) -> None:
    """Write the files of the instance: N frames of the year, n sequences of a split; side is 252 pixels.

    Args:
        raw: Holds `weather4cast/` with the organisers' files, in folders by year and instrument.
        public: Receives `train.reflbt.npy`, float16 (1, N, 11, side, side), `train.rates.npy`, float32 (1, N,
            side, side), and `train.starts.npy`, int64 (windows,).
        private: Receives for each split `inputs/reflbt.npy`, float16 (n, 4, 11, side, side), and
            `answers/rates.npy`, float32 (n, 32, side, side).

    Raises:
        DataError: A file is missing, unreadable or malformed.
    """
    folder = raw / SOURCE
    with pair(folder, TRAIN_YEAR, "train") as (pictures, rates):
        starts = read_starts(find(folder, SPLITS), TRAIN_YEAR, len(pictures))
        np.save(public / "train.starts.npy", starts)
        write_training(pictures, rates, public)
    for split, year in YEARS.items():
        with pair(folder, year, "val") as (pictures, rates):
            write_sequences(pictures, rates, private / split)
            print(f"rainfall-prediction: {len(pictures) // (SEEN + AHEAD)} sequences of {split}", flush=True)


@contextlib.contextmanager
def pair(folder: Path, year: str, part: str) -> Iterator[tuple[h5py.Dataset, h5py.Dataset]]:
    """Pictures (frames, 11, side, side) and rates (frames, side, side) or (frames, 1, side, side).

    Raises:
        DataError: A file cannot be opened, or the two do not match.
    """
    paths = (
        find(folder, f"{year}/HRIT/{REGION}.{part}.reflbt0.ns.h5"),
        find(folder, f"{year}/OPERA/{REGION}.{part}.rates.crop.h5"),
    )
    with dataset(paths[0], PICTURES) as pictures, dataset(paths[1], RATES) as rates:
        frames, _, side = (*pictures.shape, 0, 0, 0)[:3]
        if pictures.shape != (frames, len(BANDS), side, side) or not frames or not side or side % (2 * ZOOM):
            raise DataError(
                f"{paths[0]} must hold (frames, {len(BANDS)} bands, side, side), side a multiple of "
                f"{2 * ZOOM}, not {pictures.shape}; is it the file of {REGION} from the 2023 competition?"
            )
        if rates.shape not in ((frames, side, side), (frames, 1, side, side)):
            raise DataError(
                f"{paths[1]} holds rates of shape {rates.shape}, but {paths[0].name} has {frames} pictures "
                f"of {side} x {side} pixels; take both from the same year and part"
            )
        yield pictures, rates


@contextlib.contextmanager
def dataset(path: Path, key: str) -> Iterator[h5py.Dataset]:
    """A dataset of numbers that is stored in one HDF5 file.

    Raises:
        DataError: The dataset is missing, it is stored in another file, or the file is damaged.
    """
    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get(key, getlink=True), h5py.HardLink):
                raise DataError(f"{path} does not itself hold a dataset {key!r}; it holds {sorted(file)[:5]}")
            numbers = file[key]
            if not isinstance(numbers, h5py.Dataset) or numbers.dtype.kind not in "fiu":
                raise DataError(f"{key!r} in {path} is not an array of numbers")
            if numbers.external or numbers.is_virtual:
                raise DataError(f"{key!r} in {path} points into other files; download the file again")
            yield numbers
    except OSError as error:
        raise DataError(f"{path} cannot be read as HDF5 ({error}); download it again") from error


def read_starts(path: Path, year: str, frames: int) -> npt.NDArray[np.int64]:
    """Frames of the training year at which a window of 36 frames without a gap begins.

    Args:
        path: The organisers' table; training frames are those with `split` training and `all_vars` 1.
        year: The training year.
        frames: Number of pictures of that year.

    Raises:
        DataError: A column is missing, a time cannot be read, the numbers of frames differ, or no window has
            36 frames without a gap.
    """
    times = np.sort(np.array(read_times(path, year), dtype="datetime64[s]"))
    if len(times) != frames:
        raise DataError(
            f"{path} has {len(times)} training frames of {year}, but the satellite's file has {frames} "
            "pictures; use a table and files of the same edition"
        )
    steps = SEEN + AHEAD - 1
    gaps = np.cumsum(np.diff(times, prepend=times[:1]) != STEP)
    whole = gaps[steps:] == gaps[: max(0, len(gaps) - steps)]
    if not whole.any():
        raise DataError(f"{path} has no {steps + 1} training frames of {year} without a gap between them")
    return np.flatnonzero(whole).astype(np.int64)


def read_times(path: Path, year: str) -> list[str]:
    """Times of the training frames of a year, ISO 8601.

    Raises:
        DataError: See `read_starts`.
    """
    times = []
    with path.open(encoding="utf-8", newline="") as file:
        try:
            for row in csv.DictReader(file):
                used = row["split"] == "training" and row["all_vars"].lower() in ("1", "1.0", "true")
                if used and row["date_str"][:4] == year:
                    day, clock = row["date_str"], row["time"].zfill(6)
                    time = f"{day[:4]}-{day[4:6]}-{day[6:]}T{clock[:2]}:{clock[2:4]}:{clock[4:]}"
                    times.append(str(np.datetime64(time, "s")))
        except KeyError as error:
            raise DataError(f"{path} lacks the column {error}; use {SPLITS} of the starter kit") from None
        except (ValueError, TypeError, AttributeError, csv.Error) as error:
            raise DataError(f"{path} is not a valid table of times: {error}") from error
    return times


def write_training(pictures: h5py.Dataset, rates: h5py.Dataset, public: Path) -> None:
    """Write the year, frame by frame in the order of the files, as one period.

    Raises:
        DataError: The radar has measured nothing.
    """
    frames, bands, side, _ = pictures.shape
    inputs = _array(public / "train.reflbt.npy", np.float16, (1, frames, bands, side, side))
    rain = _array(public / "train.rates.npy", np.float32, (1, frames, side, side))
    known = 0
    for start in range(0, frames, CHUNK):
        part = slice(start, start + CHUNK)
        inputs[0, part] = standardised(pictures[part])
        rain[0, part] = cleaned(rates[part])
        known += int(np.count_nonzero(~np.isnan(rain[0, part])))
        if start % (100 * CHUNK) == 0:
            print(f"rainfall-prediction: {start} of {frames} training frames", flush=True)
    _check_known(known, rates)


def write_sequences(pictures: h5py.Dataset, rates: h5py.Dataset, folder: Path) -> None:
    """Write sequences of 36 frames: four pictures each as inputs, 32 frames of rain as answers.

    Raises:
        DataError: The number of frames is not a multiple of 36, or the radar has measured nothing.
    """
    frames, bands, side, _ = pictures.shape
    count, rest = divmod(frames, SEEN + AHEAD)
    if rest:
        raise DataError(
            f"{pictures.file.filename} has {frames} frames, which is not a multiple of {SEEN + AHEAD}; "
            "download it again"
        )
    inputs = _array(folder / "inputs" / "reflbt.npy", np.float16, (count, SEEN, bands, side, side))
    rain = _array(folder / "answers" / "rates.npy", np.float32, (count, AHEAD, side, side))
    known = 0
    for row in range(count):
        start = row * (SEEN + AHEAD)
        inputs[row] = standardised(pictures[start : start + SEEN])
        rain[row] = cleaned(rates[start + SEEN : start + SEEN + AHEAD])
        known += int(np.count_nonzero(~np.isnan(rain[row])))
    _check_known(known, rates)


def standardised(pictures: Array) -> npt.NDArray[np.float16]:
    """Standardise bands (frames, 11, side, side), after setting values that are not finite to 0."""
    scaled = pictures.astype(np.float32)
    scaled[~np.isfinite(scaled)] = 0
    np.clip(scaled, _LOW, _HIGH, out=scaled)
    scaled -= _MEAN
    scaled /= _SD
    return scaled.astype(np.float16)


def cleaned(rates: Array) -> npt.NDArray[np.float32]:
    """Rates (frames, side, side) in mm/h: 0 below 0.2 mm/h, NaN where the radar has not measured."""
    rain = rates.reshape(len(rates), *rates.shape[-2:]).astype(np.float32)
    unknown = ~np.isfinite(rain) | (rain == NO_DATA) | (rain > HIGHEST)
    rain[rain < np.float32(LOWEST)] = 0  # including the code -8888000, which means "no rain"
    rain[unknown] = np.nan
    return rain


def _check_known(known: int, rates: h5py.Dataset) -> None:
    if not known:
        raise DataError(f"{rates.file.filename} has no rate that the radar has measured; download it again")


def _array(path: Path, kind: type, shape: tuple[int, ...]) -> Array:
    """Create a file for an array, to be filled; it is never in memory as a whole."""
    array: Array = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
    return array
