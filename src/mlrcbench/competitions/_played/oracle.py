"""Oracle: tells for each hidden number whether a guess is too small or too large."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlrcbench.errors import SubmissionError

if TYPE_CHECKING:
    from mlrcbench.artefacts.player import Player

ROUNDS = 8
_RANGE = 1024


def play(agent: Player, answers: Path) -> None:
    """Ask for guesses of all numbers at once, and note how far away the last ones are.

    Raises:
        SubmissionError: The guesses have another type or shape, or lie outside of the range.
    """
    numbers = np.load(answers / "numbers.npy", allow_pickle=False)
    signs = np.zeros_like(numbers)
    for turn in range(ROUNDS):
        guesses = agent.ask({"round": turn}, {"signs": signs}).array(
            "guesses", shape=numbers.shape, dtype="<i8"
        )
        if guesses.min() < 0 or guesses.max() >= _RANGE:
            raise SubmissionError(f"round {turn}: a guess lies outside of 0 to {_RANGE - 1}")
        signs = np.sign(numbers - guesses)
    agent.note({}, {"distances": np.abs(numbers - guesses)})
