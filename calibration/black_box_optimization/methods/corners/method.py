"""Random corners of the space: each parameter has its smallest or its largest value."""

import numpy as np


class Optimizer:
    """Looks for a point with a small loss in one search space."""

    def __init__(self, space, seed):
        self.space, self.random = space, np.random.default_rng(seed)

    def suggest(self, count):
        """The next points to try, (count, d), as values of the space."""
        places = self.random.integers(2, size=(count, self.space.size))
        return self.space.values(places * (1 - 1e-12))

    def observe(self, points, losses):
        """Learn nothing."""
