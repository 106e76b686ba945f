"""Scorer: root mean squared error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlrcbench.aggregates import jackknife
from mlrcbench.artefacts import read_npy
from mlrcbench.score import Score


def score(artefacts: Path, answers: Path) -> Score:
    """Compare `predictions.npy` with the true heights.

    Raises:
        SubmissionError: The predictions are not float64, have a wrong shape, or are not finite.
    """
    truth = np.load(answers / "y.npy", allow_pickle=False)
    predictions = read_npy(artefacts / "predictions.npy", shape=truth.shape, dtype="<f8")
    return Score(
        value=float(np.sqrt(np.mean((predictions - truth) ** 2))),
        error=standard_error(predictions - truth),
    )


def standard_error(differences: npt.NDArray[np.float64]) -> float | None:
    """The standard error of the root mean square of some differences, over the points that were drawn."""
    squares = differences**2
    others = np.maximum(squares.sum() - squares, 0.0) / (len(squares) - 1)
    return jackknife(np.sqrt(others))
