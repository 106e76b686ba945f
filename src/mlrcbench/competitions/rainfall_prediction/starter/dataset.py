"""What the data are, and how predictions are judged. Protected: put back before every evaluation."""

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
SEEN, AHEAD = 4, 12  # frames given, frames to be predicted
TARGET, ZOOM = 4, 6  # satellite pixels that the radar covers, radar pixels in one of them
THRESHOLDS = (0.2, 1.0, 5.0, 10.0, 15.0)  # mm/h


def load(folder="data"):
    """The training year: reflbt (periods, frames, 11, side, side) and rates (periods, frames, side, side)."""
    folder = Path(folder)
    return np.load(folder / "train.reflbt.npy", mmap_mode="r"), np.load(folder / "train.rates.npy")


def starts(rates, stride=1):
    """Period and first frame, (n, 2), of all windows of SEEN + AHEAD frames, every `stride` frames."""
    periods, frames = rates.shape[:2]
    first = np.arange(0, frames - SEEN - AHEAD + 1, stride)
    return np.stack([np.repeat(np.arange(periods), len(first)), np.tile(first, periods)], 1)


def seen(reflbt, at):
    """Satellite frames (n, SEEN, 11, side, side), float32, of the windows that begin at `at`, (n, 2)."""
    return reflbt[at[:, :1], at[:, 1:] + np.arange(SEEN)].astype(np.float32)


def ahead(rates, at):
    """Rain rates (n, AHEAD, side, side) of the windows that begin at `at`, (n, 2)."""
    return rates[at[:, :1], at[:, 1:] + SEEN + np.arange(AHEAD)]


def csi(truth, predicted):
    """Critical success index at each threshold; what is NaN in `truth` does not count."""
    known = ~np.isnan(truth)
    scores = {}
    for threshold in THRESHOLDS:
        rain, alarm = (truth >= threshold) & known, (predicted >= threshold) & known
        scores[threshold] = (rain & alarm).sum() / max(1, (rain | alarm).sum())
    return scores
