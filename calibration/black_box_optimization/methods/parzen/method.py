"""Parzen estimators of good and of bad points, parameter by parameter (Bergstra et al. 2011)."""

import numpy as np

START, CANDIDATES, GOOD, WIDTH = 12, 4, 0.15, 0.1


class Optimizer:
    """Looks for a point with a small loss in one search space."""

    def __init__(self, space, seed):
        self.space, self.random = space, np.random.default_rng(seed)
        self.unit, self.losses = np.zeros((0, space.size)), np.zeros(0)

    def suggest(self, count):
        """The next points to try, (count, d), as values of the space."""
        if len(self.losses) < START:
            return self.space.values(self.random.random((count, self.space.size)))
        return self.space.values(np.array([self._propose() for _ in range(count)]))

    def observe(self, points, losses):
        """Learn the losses, (count,), of the points that were suggested last, (count, d)."""
        self.unit = np.concatenate([self.unit, self.space.unit(points)])
        self.losses = np.concatenate([self.losses, losses])

    def _propose(self):
        order = np.argsort(self.losses, kind="stable")
        count = max(4, int(np.ceil(GOOD * len(order))))
        good, bad = self.unit[order[:count]], self.unit[order[count:]]
        place = np.zeros(self.space.size)
        for number, parameter in enumerate(self.space.parameters):
            if parameter["type"] in ("cat", "bool"):
                place[number] = self._category(good[:, number], bad[:, number], parameter["count"])
            else:
                place[number] = self._number(good[:, number], bad[:, number])
        return place

    def _category(self, good, bad, count):
        shares = [np.bincount((part * count).astype(int), minlength=count) + 1.0 for part in (good, bad)]
        chances = shares[0] / shares[0].sum()
        drawn = self.random.choice(count, size=4, p=chances)
        ratio = chances / (shares[1] / shares[1].sum())
        return (drawn[ratio[drawn].argmax()] + 0.5) / count

    def _number(self, good, bad):
        drawn = good[self.random.integers(len(good), size=CANDIDATES)] + WIDTH * self.random.normal(
            size=CANDIDATES
        )
        drawn = np.minimum(np.abs((drawn + 1) % 2 - 1), 1 - 1e-12)
        return drawn[(_density(drawn, good) / _density(drawn, bad)).argmax()]


def _density(places, centres):
    """The density, (m,), of kernels that are reflected at both ends, and of the uniform distribution."""
    centres = np.concatenate([centres, -centres, 2 - centres])
    kernels = np.exp(-(((places[:, None] - centres) / WIDTH) ** 2) / 2) / (WIDTH * np.sqrt(2 * np.pi))
    return (kernels.sum(axis=1) + 1) / (len(centres) / 3 + 1)
