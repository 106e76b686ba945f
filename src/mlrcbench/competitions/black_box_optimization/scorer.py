"""Scorer: how much of the way from one random point to the best known one the optimiser went.

For each problem, n = (smallest loss - best) / (clip - best), where the smallest loss is at most `clip`, the
median of random points, and `best` is what a long search has found. The score is 100 * (1 - mean n), as in
the Black-Box Optimization Challenge (Turner et al., PMLR 133, 2021, section 3).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from mlrcbench.aggregates import error_of_mean
from mlrcbench.artefacts.transcript import read_transcript
from mlrcbench.competitions.black_box_optimization.oracle import BATCH
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score

_LEAST = -0.05  # of n, where an optimiser is better than the long search


def score(artefacts: Path, answers: Path) -> Score:
    """Read the losses that the oracle has noted.

    Returns:
        The score, with the number of rounds that were played, and the scores of formulas and models.

    Raises:
        SubmissionError: The transcript has no such note.
    """
    problems = json.loads((answers / "problems.json").read_text("utf-8"))
    notes = [entry.message for entry in read_transcript(artefacts / "transcript") if entry.kind == "note"]
    if len(notes) != 1:
        raise SubmissionError(f"the transcript has {len(notes)} notes of the oracle, and a game leaves one")
    rounds = notes[0].value("rounds", int)
    losses = notes[0].array("losses", shape=(len(problems), rounds * BATCH), dtype="<f8")
    clip, best = (np.array([problem[name] for problem in problems]) for name in ("clip", "best"))
    smallest = np.minimum(losses.min(axis=1, initial=np.inf), clip)
    scores = 100 * (1 - np.maximum((smallest - best) / (clip - best), _LEAST))
    formulas = np.array([problem["kind"] == "formula" for problem in problems])
    details = {
        "rounds": float(rounds),
        "formulas": float(scores[formulas].mean()),
        "models": float(scores[~formulas].mean()),
    }
    return Score(
        value=float(scores.mean()),
        details=details,
        error=standard_error(scores[formulas].tolist(), scores[~formulas].tolist()),
    )


def standard_error(formulas: list[float], models: list[float]) -> float | None:
    """The standard error over the draw of problems; how many are formulas and how many models is fixed."""
    return error_of_mean(formulas, models)
