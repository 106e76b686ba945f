"""The method: change this file. The baseline walks in steps of 64."""

import numpy as np


class Method:
    """Guesses numbers from 0 to 1023."""

    def __init__(self, count: int) -> None:
        self.guesses = np.full(count, 512)

    def guess(self, signs: np.ndarray) -> np.ndarray:
        """The next guesses, (n,), from the signs of (number - last guess), (n,); zeros at first."""
        self.guesses = np.clip(self.guesses + 64 * signs, 0, 1023)
        return self.guesses
