"""Half of each batch by a trust region, half by a portfolio of acquisition functions over the whole space.

The second place of the challenge joined the two in this way (Liu, Tunguz and Titericz, 2020); targets of
the global process are power-transformed, as in HEBO (Cowen-Rivers et al., 2022).
"""

import numpy as np
from proposers import Portfolio, TrustRegion

START = 12  # points before the first surrogate


class Optimizer:
    """Looks for a point with a small loss in one search space."""

    def __init__(self, space, seed):
        self.space = space
        self.random = np.random.default_rng(seed)
        self.unit, self.losses = np.zeros((0, space.size)), np.zeros(0)
        self.design = latin(START, space.size, self.random)
        self.proposers = self.make_proposers()

    def make_proposers(self):
        """The proposers that share a batch."""
        return [TrustRegion(self.space, self.random), Portfolio(self.space, self.random)]

    def suggest(self, count):
        """The next points to try, (count, d), as values of the space."""
        if len(self.losses) < START:
            return self.space.values(self.design[len(self.losses) : len(self.losses) + count])
        share = count // len(self.proposers)
        parts = [proposer.propose(self.unit, self.losses, share) for proposer in self.proposers]
        return self.space.values(np.concatenate(parts))

    def observe(self, points, losses):
        """Learn the losses, (count,), of the points that were suggested last, (count, d)."""
        self.unit = np.concatenate([self.unit, self.space.unit(points)])
        self.losses = np.concatenate([self.losses, losses])


def latin(count, size, random):
    """A Latin square: each part of each coordinate's range is used once, (count, size)."""
    rows = np.stack([random.permutation(count) for _ in range(size)], axis=1)
    return (rows + random.random((count, size))) / count
