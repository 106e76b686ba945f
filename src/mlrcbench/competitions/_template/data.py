"""Generator: points on a random line of slope 2 or -2, with Gaussian noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_SLOPE = 2.0
_NOISE = 0.1


def build(public: Path, private: Path, *, seed: int, tier: str) -> None:  # noqa: ARG001 (always the same)
    """Write an instance.

    Args:
        public: Receives `train.npy`, (200, 2) float64.
        private: Receives for each split `inputs/x.npy` and `answers/y.npy`, (100,) float64.
        seed: Number derived from the secret; decides every byte.
        tier: Always "mini", the only tier that is built.
    """
    world = np.random.default_rng([seed, 0])
    slope, offset = _SLOPE * world.choice([-1.0, 1.0]), world.normal()
    for number, (split, count) in enumerate((("train", 200), ("dev", 100), ("test", 100)), 1):
        random = np.random.default_rng([seed, number])
        x = random.uniform(-1.0, 1.0, count)
        y = slope * x + offset + _NOISE * random.normal(size=count)
        if split == "train":
            np.save(public / "train.npy", np.stack([x, y], axis=1))
        else:
            np.save(private / split / "inputs" / "x.npy", x)
            np.save(private / split / "answers" / "y.npy", y)
