"""Random search in which every category keeps its first value, as if it were the default."""

import numpy as np


class Optimizer:
    """Looks for a point with a small loss in one search space."""

    def __init__(self, space, seed):
        self.space, self.random = space, np.random.default_rng(seed)

    def suggest(self, count):
        """The next points to try, (count, d), as values of the space."""
        places = self.random.random((count, self.space.size))
        for number, parameter in enumerate(self.space.parameters):
            if parameter["type"] in ("cat", "bool"):
                places[:, number] = 0.0
        return self.space.values(places)

    def observe(self, points, losses):
        """Learn nothing."""
