"""Scorer: root mean squared error."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlrcbench.artefacts import read_npy
from mlrcbench.score import Score


def score(artefacts: Path, answers: Path) -> Score:
    """Compare `predictions.npy` with the true heights.

    Raises:
        SubmissionError: The predictions are not float64, have a wrong shape, or are not finite.
    """
    truth = np.load(answers / "y.npy", allow_pickle=False)
    predictions = read_npy(artefacts / "predictions.npy", shape=truth.shape, dtype="<f8")
    return Score(value=float(np.sqrt(np.mean((predictions - truth) ** 2))))
