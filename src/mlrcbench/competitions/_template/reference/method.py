"""Least squares."""

import numpy as np


def predict(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Heights at `x`, (n,), from known points `train`, (m, 2)."""
    slope, offset = np.polyfit(train[:, 0], train[:, 1], 1)
    return slope * x + offset
