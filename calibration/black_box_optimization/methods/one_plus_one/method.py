"""A (1+1) evolution strategy in parallel, with the rule of one fifth (Rechenberg 1973), as in nevergrad."""

import numpy as np


class Optimizer:
    """Looks for a point with a small loss in one search space."""

    def __init__(self, space, seed):
        self.space = space
        self.random = np.random.default_rng(seed)
        self.best, self.place, self.step = np.inf, None, 0.3

    def suggest(self, count):
        """The next points to try, (count, d), as values of the space."""
        if self.place is None:
            return self.space.values(self.random.random((count, self.space.size)))
        steps = self.step * self.random.normal(size=(count, self.space.size))
        mirrored = np.abs((self.place + steps + 1) % 2 - 1)
        return self.space.values(np.minimum(mirrored, 1 - 1e-12))

    def observe(self, points, losses):
        """Move to the best point if it is no worse, and adapt the step."""
        share = (losses < self.best).mean()
        self.step = np.clip(self.step * np.exp(1.2 * (share - 0.2)), 0.01, 0.5)
        if losses.min() <= self.best:
            self.best = losses.min()
            self.place = self.space.unit(points)[losses.argmin()]
