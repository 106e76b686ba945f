"""Two ways to propose points: globally by two acquisition functions, and locally in a trust region."""

import math

import numpy as np
from surrogate import Encoder, Gaussian, by_power, by_rank, choose, draw

CANDIDATES = 300


class Portfolio:
    """A Gaussian process over the whole space; EI and LCB take turns (after Hoffman et al., UAI 2011)."""

    KINDS = ("ei", "lcb", "ei")

    def __init__(self, space, random, transform=by_power):
        self.space, self.random, self.transform = space, random, transform
        self.encoder = Encoder(space)
        self.gaussian = Gaussian(self.encoder(np.zeros((1, space.size))).shape[1])
        self.turn = 0

    def propose(self, unit, losses, count):
        """The next places in the unit cube, (count, d), from all places so far, (n, d), and losses, (n,)."""
        targets = self.transform(losses)
        self.gaussian.fit(self.encoder(unit), targets)
        candidates = self._candidates(unit, losses)
        kinds = [self.KINDS[(self.turn + number) % len(self.KINDS)] for number in range(count)]
        self.turn += count
        return candidates[choose(self.gaussian, self.encoder(candidates), kinds, targets.min())]

    def _candidates(self, unit, losses):
        """Random places, and moves of the best places by steps of several sizes."""
        size = unit.shape[1]
        parts = [self.random.random((CANDIDATES // 2, size))]
        for place in unit[np.argsort(losses)[:3]]:
            steps = np.exp(self.random.uniform(math.log(0.01), math.log(0.3), (CANDIDATES // 6, 1)))
            moved = place + steps * self.random.normal(size=(CANDIDATES // 6, size))
            kept = self.random.random(moved.shape) < 0.5
            parts.append(np.where(kept, place, moved) % 1.0)
        return rounded(self.space, np.concatenate(parts), unit)


class TrustRegion:
    """Thompson sampling in a box around the best place that grows and shrinks (TuRBO, Eriksson 2019)."""

    def __init__(self, space, random):
        self.space, self.random = space, random
        self.encoder = Encoder(space)
        self.gaussian = Gaussian(self.encoder(np.zeros((1, space.size))).shape[1])
        self.length, self.good, self.bad, self.best = 0.8, 0, 0, np.inf

    def propose(self, unit, losses, count):
        """The next places in the unit cube, (count, d), from all places so far, (n, d), and losses, (n,)."""
        self._resize(losses)
        self.gaussian.fit(self.encoder(unit), by_rank(losses))
        candidates = self._candidates(unit[losses.argmin()], unit)
        return candidates[draw(self.gaussian, self.encoder(candidates), count, self.random)]

    def _resize(self, losses):
        better = losses.min() < self.best - 1e-3 * abs(self.best) if np.isfinite(self.best) else True
        self.best = min(self.best, losses.min())
        self.good, self.bad = (self.good + 1, 0) if better else (0, self.bad + 1)
        if self.good == 2:
            self.length, self.good = min(1.6, 2 * self.length), 0
        elif self.bad == 2:
            self.length, self.bad = self.length / 2, 0
        if self.length < 0.5**6:
            self.length = 0.8

    def _candidates(self, centre, unit):
        size = len(centre)
        box = self.length / 2 * np.ones(size)
        moved = centre + self.random.uniform(-1, 1, (CANDIDATES, size)) * box
        for number, count in self.encoder.columns:
            if count:  # a category is kept, or drawn again
                moved[:, number] = self.random.random(CANDIDATES)
        mask = self.random.random((CANDIDATES, size)) < max(0.3, min(1.0, 4 / size))
        mask[np.arange(CANDIDATES), self.random.integers(size, size=CANDIDATES)] = True
        return rounded(self.space, np.clip(np.where(mask, moved, centre), 0.0, 1 - 1e-9), unit)


def rounded(space, places, known):
    """Places of real points, without those that are known already (unless too few are left)."""
    places = space.unit(space.values(places))
    fresh = np.abs(places[:, None] - known[None]).max(axis=2).min(axis=1) > 1e-9
    return places[fresh] if fresh.sum() >= 20 else places
