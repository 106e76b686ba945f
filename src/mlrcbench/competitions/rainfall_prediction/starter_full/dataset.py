"""The data, and how predictions are judged. Protected: this file is restored before every evaluation."""

from pathlib import Path

import numpy as np

BANDS = [
    "IR_016",
    "IR_039",
    "IR_087",
    "IR_097",
    "IR_108",
    "IR_120",
    "IR_134",
    "VIS006",
    "VIS008",
    "WV_062",
    "WV_073",
]
DATA = Path("data")
SEEN, AHEAD = 4, 32  # frames that are given, frames to predict
ZOOM = 6  # radar pixels in a satellite pixel, on each side
SIDE = np.load(DATA / "train.rates.npy", mmap_mode="r").shape[-1]  # side of both pictures, in pixels
TARGET = SIDE // ZOOM  # satellite pixels that the radar covers
THRESHOLDS = (0.2, 1.0, 5.0, 10.0, 15.0)  # mm/h


def load(folder=DATA):
    """The training year, mapped: reflbt (1, frames, 11, side, side), rates (1, frames, side, side)."""
    return tuple(np.load(Path(folder) / f"train.{name}.npy", mmap_mode="r") for name in ("reflbt", "rates"))


def starts(rates, stride=1):
    """Period (always 0) and first frame, (n, 2), of every `stride`-th window without a gap.

    `rates` is the year or its beginning; windows end within it.
    """
    first = np.load(DATA / "train.starts.npy")
    first = first[first + SEEN + AHEAD <= rates.shape[1]][::stride]
    return np.stack([np.zeros_like(first), first], 1)


def seen(reflbt, at):
    """Satellite frames (n, SEEN, 11, side, side), float32, of the windows that begin at `at`, (n, 2)."""
    return np.asarray(reflbt[at[:, :1], at[:, 1:] + np.arange(SEEN)], dtype=np.float32)


def ahead(rates, at):
    """Rain rates (n, AHEAD, side, side) of the windows that begin at `at`, (n, 2)."""
    return np.asarray(rates[at[:, :1], at[:, 1:] + SEEN + np.arange(AHEAD)])


def csi(truth, predicted):
    """Critical success index at each threshold; pixels that are NaN in `truth` do not count."""
    known = ~np.isnan(truth)
    scores = {}
    for threshold in THRESHOLDS:
        rain, alarm = (truth >= np.float32(threshold)) & known, (predicted >= np.float32(threshold)) & known
        scores[threshold] = (rain & alarm).sum() / max(1, (rain | alarm).sum())
    return scores
