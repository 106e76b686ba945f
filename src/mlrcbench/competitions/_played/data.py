"""Generator: whole numbers from 0 to 1023, each equally likely."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_COUNTS = {"practice": 256, "dev": 256, "test": 250}
_RANGE = 1024


def build(public: Path, private: Path, *, seed: int, tier: str) -> None:  # noqa: ARG001 (always the same)
    """Write an instance.

    Args:
        public: Receives `practice.npy`, (256,) int64.
        private: Receives for each split `inputs/count.npy`, the number of numbers, and
            `answers/numbers.npy`, int64, (256,) on dev and (250,) on test.
        seed: Number derived from the secret; decides every byte.
        tier: Always "mini", the only tier that is built.
    """
    for stream, (split, count) in enumerate(_COUNTS.items()):
        numbers = np.random.default_rng([seed, stream]).integers(0, _RANGE, count)
        if split == "practice":
            np.save(public / "practice.npy", numbers)
        else:
            np.save(private / split / "inputs" / "count.npy", np.array(count))
            np.save(private / split / "answers" / "numbers.npy", numbers)
