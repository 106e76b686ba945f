"""Scorer: mean distance between the hidden numbers and the last guesses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlrcbench.aggregates import error_of_mean
from mlrcbench.artefacts.transcript import read_transcript
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score


def score(artefacts: Path, answers: Path) -> Score:
    """Read the distances that the oracle has noted.

    Raises:
        SubmissionError: The transcript has no such note.
    """
    shape = np.load(answers / "numbers.npy", allow_pickle=False).shape
    notes = [entry.message for entry in read_transcript(artefacts / "transcript") if entry.kind == "note"]
    if len(notes) != 1:
        raise SubmissionError(f"the transcript has {len(notes)} notes of the oracle, and a game leaves one")
    distances = notes[0].array("distances", shape=shape, dtype="<i8")
    # The hidden numbers are independent draws, so the error is that of a mean over them.
    return Score(value=float(distances.mean()), error=error_of_mean(distances))
