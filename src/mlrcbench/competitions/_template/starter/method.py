"""The method: change this file. The baseline predicts the mean height."""

import numpy as np


def predict(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Heights at `x`, (n,), from known points `train`, (m, 2)."""
    return np.full(len(x), train[:, 1].mean())
