"""The method: change this file. The baseline draws all points at random."""

import numpy as np


class Optimizer:
    """Looks for a point with a small loss in one search space."""

    def __init__(self, space, seed):
        """Begin.

        Args:
            space: The search space; see `space.py`.
            seed: A number that differs between problems.
        """
        self.space = space
        self.random = np.random.default_rng(seed)

    def suggest(self, count):
        """The next points to try, (count, d), as values of the space."""
        return self.space.values(self.random.random((count, self.space.size)))

    def observe(self, points, losses):
        """Learn the losses, (count,), of the points that were suggested last, (count, d)."""
