"""Scorer of the full tier: the same metric on half a gigabyte of rates, one sequence in memory at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlrcbench.artefacts import map_npy
from mlrcbench.competitions.rainfall_prediction.scorer import THRESHOLDS, contingency, csi, standard_error
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score

_FILE = "rates.npy"


def score(artefacts: Path, answers: Path) -> Score:
    """Judge the predicted rain of one split; value and details are those of `scorer.score`.

    Args:
        artefacts: Holds `rates.npy`, (sequences, 32, side, side) float32, mm/h.
        answers: Holds `rates.npy` of the same shape, NaN where nothing was measured.

    Raises:
        SubmissionError: The rates have a wrong type or shape, are not finite, or are negative; the message
                names the first such sequence.
    """
    truth = np.load(answers / _FILE, mmap_mode="r", allow_pickle=False)
    predicted = map_npy(artefacts / _FILE, shape=truth.shape, dtype="<f4")
    counts, always = np.zeros((2, len(THRESHOLDS), 3), dtype=np.int64)
    for number, (measured, guessed) in enumerate(zip(truth, predicted, strict=True)):
        if not np.isfinite(guessed).all():
            raise SubmissionError(
                f"{_FILE} contains NaN or infinity in sequence {number}; every number must be finite"
            )
        if (guessed < 0).any():
            raise SubmissionError(
                f"{_FILE} has negative rates in sequence {number}; rates must be 0 or more, so clip them"
            )
        counts += contingency(measured, guessed)
        always += contingency(measured, np.full_like(measured, THRESHOLDS[-1]))
    values = csi(counts)
    details = {f"csi_{threshold:g}": value for threshold, value in zip(THRESHOLDS, values, strict=True)}
    details["heavy_rain_everywhere"] = float(np.mean(csi(always)))
    return Score(value=float(np.mean(values)), details=details, error=standard_error(truth, predicted))
