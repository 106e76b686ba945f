"""Parzen estimators of good and bad points, parameter by parameter (TPE, Bergstra et al. 2011), as hyperopt."""

import numpy as np

START, CANDIDATES, GOOD = 12, 64, 0.2


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
        drawn = self.random.choice(count, size=CANDIDATES // 8, p=chances)
        ratio = chances / (shares[1] / shares[1].sum())
        return (drawn[ratio[drawn].argmax()] + 0.5) / count

    def _number(self, good, bad):
        centres, widths = _kernels(good)
        picked = self.random.integers(len(centres), size=CANDIDATES // 2)
        drawn = centres[picked] + widths[picked] * self.random.normal(size=len(picked))
        drawn = np.minimum(np.abs((drawn + 1) % 2 - 1), 1 - 1e-12)
        return drawn[(_density(drawn, centres, widths) - _density(drawn, *_kernels(bad))).argmax()]


def _kernels(places):
    """Centres and widths of a mixture: as wide as the larger gap to a neighbour, and one broad prior."""
    centres = np.sort(np.append(places, 0.5))
    gaps = np.diff(np.concatenate([[0.0], centres, [1.0]]))
    widths = np.clip(np.maximum(gaps[:-1], gaps[1:]), 1 / min(100, len(centres) + 1), 1.0)
    widths[np.searchsorted(centres, 0.5)] = 1.0
    return centres, widths


def _density(places, centres, widths):
    """The log density of a mixture."""
    z = (places[:, None] - centres) / widths
    return np.log((np.exp(-(z**2) / 2) / widths).mean(axis=1) + 1e-300)
