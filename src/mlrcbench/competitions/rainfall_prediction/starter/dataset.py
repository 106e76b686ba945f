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
SEEN, AHEAD = 4, 6  # frames that are given, 15 minutes apart; frames to predict, 30 minutes apart
LEADS = (2, 4, 6, 8, 10, 12)  # from the last frame that is given to those to predict, in steps of 15 minutes
TARGET, ZOOM = 4, 4  # satellite pixels that the radar covers; radar pixels in one of them
THRESHOLDS = (0.2, 1.0, 5.0, 10.0, 15.0)  # mm/h


def load(folder="data"):
    """The training year: reflbt (n, SEEN, 11, side, side) and rates (n, SEEN + AHEAD, side, side)."""
    folder = Path(folder)
    return np.load(folder / "train.reflbt.npy", mmap_mode="r"), np.load(folder / "train.rates.npy")


def mapped(predicted, example, rates):
    """Map predictions by rank to rates, so that each rate is predicted as often as it was measured.

    Args:
        predicted: Predictions, any shape.
        example: Predictions for the times and places of `rates`, of the same shape as those.
        rates: Measured rates, NaN if not measured.
    """
    known, shares = ~np.isnan(rates), np.linspace(0, 1, 20001)
    curve = (np.quantile(values[known], shares) for values in (example, rates))
    return np.interp(predicted, *curve).astype(np.float32)


def csi(truth, predicted):
    """Critical success index at each threshold; pixels that are NaN in `truth` do not count."""
    known = ~np.isnan(truth)
    scores = {}
    for threshold in THRESHOLDS:
        rain, alarm = (truth >= threshold) & known, (predicted >= threshold) & known
        scores[threshold] = (rain & alarm).sum() / max(1, (rain | alarm).sum())
    return scores
