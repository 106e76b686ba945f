"""Bisection."""

import numpy as np


class Method:
    """Guesses numbers from 0 to 1023."""

    def __init__(self, count: int) -> None:
        self.low, self.high = np.zeros(count, dtype=np.int64), np.full(count, 1024)
        self.guesses = np.full(count, 512)

    def guess(self, signs: np.ndarray) -> np.ndarray:
        """The next guesses, (n,), from the signs of (number - last guess), (n,); zeros at first."""
        self.low = np.where(signs > 0, self.guesses + 1, self.low)
        self.high = np.where(signs < 0, self.guesses, self.high)
        self.guesses = np.where(signs == 0, self.guesses, (self.low + self.high) // 2)
        return self.guesses
