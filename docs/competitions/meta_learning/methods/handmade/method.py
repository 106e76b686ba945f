"""Gradient histograms and spectra, with the reference's classifier: nothing is learnt before a task."""

import math

import torch
from torch.nn import functional

ORIENTATIONS, GRIDS = 8, (4, 2, 1)
SHRINKAGE = 0.5  # weight of the total spread in the spread within classes
SHARPNESS, ROUNDS, PACE = 10.0, 12, 0.3  # transport


@torch.no_grad()
def gradients(images):
    """Square roots of histograms on grids of 4, 2 and 1 cells by side, unit length on each, (n, 168)."""
    grey = functional.pad(images.float().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = grey[:, :, 1:-1, 2:] - grey[:, :, 1:-1, :-2]
    down = grey[:, :, 2:, 1:-1] - grey[:, :, :-2, 1:-1]
    angle = torch.atan2(down, across)
    centres = (torch.arange(ORIENTATIONS) + 0.5) * math.pi / ORIENTATIONS
    apart = (angle - centres[:, None, None] + math.pi / 2).remainder(math.pi) - math.pi / 2
    votes = torch.hypot(across, down) * (1 - apart.abs() * ORIENTATIONS / math.pi).clamp_min(0)
    cells = [functional.adaptive_avg_pool2d(votes, grid).flatten(1).sqrt() for grid in GRIDS]
    return torch.cat([functional.normalize(each) for each in cells], 1)


@torch.no_grad()
def spectrum(images):
    """Square roots of Fourier amplitudes of the windowed grey image, unit length, (n, 144)."""
    grey, window = images.float().mean(1), torch.hann_window(16, periodic=False)
    grey = (grey - grey.mean((1, 2), keepdim=True)) * window[:, None] * window
    return functional.normalize(torch.fft.rfft2(grey).abs().flatten(1).sqrt())


def describe(images):
    """Both, (n, 312)."""
    return torch.cat([gradients(images), spectrum(images)], 1)


class MetaLearner:
    """Learn nothing."""

    def meta_fit(self, dataset):
        """Return a learner."""
        return Learner()


class Learner:
    """Describe the support images in the whitened space of their task."""

    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        return Predictor(describe(images), labels, ways)

    def save(self, folder):
        """Nothing to write."""

    @classmethod
    def load(cls, folder):
        """Nothing to read."""
        return cls()


class Predictor:
    """Label the queries together."""

    def __init__(self, support, labels, ways):
        self.labels, self.ways = labels, ways
        self.mean = support.mean(0)
        self.basis, self.share = self.spread(support)
        self.support = self.whiten(support)

    def spread(self, support):
        """Directions of the spread within classes, (features, k), and how much of each to take away.

        The covariance S + r 1 has the inverse square root (1 - V diag(1 - sqrt(r / (s + r))) V') / sqrt(r),
        where V and s are the eigenvectors and eigenvalues of S; they come from the smaller matrix of
        support images by support images.
        """
        onehot = functional.one_hot(self.labels, self.ways).float()
        inside = support - (onehot.T @ support / onehot.sum(0)[:, None])[self.labels]
        ridge = SHRINKAGE * (support - self.mean).square().mean()
        values, vectors = torch.linalg.eigh(inside @ inside.T / len(support))
        kept = values > 1e-4 * ridge
        basis = inside.T @ vectors[:, kept] / (len(support) * values[kept]).sqrt()
        return basis, 1 - (ridge / (ridge + values[kept])).sqrt()

    def whiten(self, described):
        """Unit vectors in the space in which the classes' spread is round."""
        moved = described - self.mean
        return functional.normalize(moved - (moved @ self.basis * self.share) @ self.basis.T)

    @torch.no_grad()
    def predict(self, images):
        """Class ids, (n,)."""
        queries = self.whiten(describe(images))
        known = functional.one_hot(self.labels, self.ways).float()
        centres = known.T @ self.support / known.sum(0)[:, None]
        for _ in range(ROUNDS):
            plan = transport(torch.cdist(queries, centres).square())
            means = (known.T @ self.support + plan.T @ queries) / (known.sum(0) + plan.sum(0))[:, None]
            centres = centres + PACE * (means - centres)
        return transport(torch.cdist(queries, centres).square()).argmax(1)


def transport(costs):
    """Sinkhorn's plan, (queries, ways), in which all classes get the same share of the queries."""
    plan = torch.exp(-SHARPNESS * (costs - costs.min(1, keepdim=True).values))
    for _ in range(20):
        plan = plan / plan.sum(0) * (len(plan) / plan.shape[1])
        plan = plan / plan.sum(1, keepdim=True)
    return plan
