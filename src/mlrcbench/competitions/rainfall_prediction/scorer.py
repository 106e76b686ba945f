"""Scorer: mean critical success index over five rain rates.

At each threshold the predicted and the measured rate are turned into yes or no at every radar pixel,
time and sequence, and pooled: CSI = hits / (hits + misses + false alarms), which leaves out the many
pixels that are correctly called dry. Weather4cast 2023 takes the mean over the thresholds. Pixels that
the radar has not measured count as dry on both sides, which means that they do not count.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlrcbench.aggregates import jackknife
from mlrcbench.artefacts import read_npy
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score

THRESHOLDS = (0.2, 1.0, 5.0, 10.0, 15.0)
_FILE = "rates.npy"
_CHUNK = 16  # sequences counted at a time, to bound memory


def contingency(truth: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Hits, misses and false alarms at each threshold, (5, 3).

    Args:
        truth: Measured rates in mm/h, any shape; NaN where nothing was measured.
        predicted: Predicted rates in mm/h, of the same shape, finite.
    """
    known = ~np.isnan(truth)
    measured, guessed = truth[known], predicted[known]
    counts = np.empty((len(THRESHOLDS), 3), dtype=np.int64)
    for row, threshold in enumerate(THRESHOLDS):
        rain, alarm = measured >= np.float32(threshold), guessed >= np.float32(threshold)
        hits = int((rain & alarm).sum())
        counts[row] = hits, int(rain.sum()) - hits, int(alarm.sum()) - hits
    return counts


def csi(counts: npt.NDArray[np.int64]) -> list[float]:
    """Critical success index of each row of hits, misses and false alarms; 0 if all three are 0."""
    return [float(row[0] / row.sum()) if row.any() else 0.0 for row in counts]


def score(artefacts: Path, answers: Path) -> Score:
    """Judge the predicted rain of one split.

    Args:
        artefacts: Holds `rates.npy`, (sequences, frames, side, side) float32, mm/h.
        answers: Holds `rates.npy` of the same shape, NaN where nothing was measured.

    Returns:
        Value: the mean CSI over the thresholds, from 0 to 1. The details hold the CSI at each threshold
        and, for comparison, the value of predicting heavy rain everywhere.

    Raises:
        SubmissionError: The rates have a wrong type or shape, are not finite, or are negative.
    """
    truth = np.load(answers / _FILE, mmap_mode="r", allow_pickle=False)
    predicted = read_npy(artefacts / _FILE, shape=truth.shape, dtype="<f4")
    count = int(np.count_nonzero(np.less(predicted, 0)))
    if count:
        raise SubmissionError(f"{_FILE} has {count} negative rates; rates must be 0 or more, so clip them")
    counts, always = np.zeros((2, len(THRESHOLDS), 3), dtype=np.int64)
    for start in range(0, len(truth), _CHUNK):
        part = np.asarray(truth[start : start + _CHUNK])
        counts += contingency(part, predicted[start : start + _CHUNK])
        always += contingency(part, np.full_like(part, THRESHOLDS[-1]))
    values = csi(counts)
    details = {f"csi_{threshold:g}": value for threshold, value in zip(THRESHOLDS, values, strict=True)}
    details["heavy_rain_everywhere"] = float(np.mean(csi(always)))
    return Score(value=float(np.mean(values)), details=details, error=standard_error(truth, predicted))


def standard_error(truth: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> float | None:
    """The standard error of the mean CSI, over the draw of sequences.

    A sequence is one window of weather: its pixels and frames belong to the same rain and are not
    independent, while sequences are. The CSI is a ratio of sums, so each sequence is left out in turn.

    Args:
        truth: Measured rates, (sequences, frames, side, side); NaN where nothing was measured.
        predicted: Predicted rates, of the same shape.
    """
    counts = np.zeros((2, len(truth), len(THRESHOLDS)))  # hits, and everything that is not correctly dry
    together = max(1, min(_CHUNK, (1 << 16) // truth[0].size))  # real sequences are larger
    for start in range(0, len(truth), together):
        part = slice(start, start + together)
        measured, guessed = np.asarray(truth[part]), predicted[part]
        known = ~np.isnan(measured)
        for column, threshold in enumerate(THRESHOLDS):
            rain, alarm = measured >= np.float32(threshold), known & (guessed >= np.float32(threshold))
            counts[0, part, column] = np.count_nonzero(rain & alarm, (1, 2, 3))
            counts[1, part, column] = np.count_nonzero(rain | alarm, (1, 2, 3))
    hits, union = counts.sum(1, keepdims=True) - counts
    return jackknife(np.divide(hits, union, out=np.zeros_like(hits), where=union > 0).mean(1))
