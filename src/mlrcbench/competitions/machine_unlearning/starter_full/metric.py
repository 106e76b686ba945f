"""The forgetting quality, for practice. Protected; the scorer has its own copy.

The statement has the formula. `epsilons` shows for each image how well an attack succeeds.
"""

import math

import numpy as np
import torch

DELTA, CAP, PER_UNIT, BUFFER, PEAKY, BIN = 1e-5, 50.0, 100, 2.0, 0.01, 0.5


def confidence(logits, labels):
    """Confidences log p(label) - log(1 - p(label)) as an array (models, images)."""
    probabilities = logits.detach().double().softmax(-1)
    index = labels.expand(len(logits), -1)[..., None]
    right = probabilities.gather(-1, index)[..., 0]
    wrong = probabilities.scatter(-1, index, 0.0).sum(-1)
    return (torch.log(right + 1e-45) - torch.log(wrong + 1e-45)).numpy()


def table_of(count):
    """Epsilon by the numbers of false positives and of false negatives out of `count`; -1 means ignored."""
    rate = np.arange(count + 1) / count
    a, b = rate[:, None], rate[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        table = np.fmax(np.log(1 - DELTA - a) - np.log(b), np.log(1 - DELTA - b) - np.log(a))
    table = np.where(np.isnan(table), -1.0, np.clip(table, 0.0, None))
    table[0, :] = table[:, 0] = -1.0
    table[0, 0] = np.inf
    return table


def epsilon(ours, theirs, table):
    """The largest epsilon over all thresholds and intervals, for one image."""
    ours, theirs = np.sort(ours), np.sort(theirs)
    upper, lower = (theirs, ours) if np.median(theirs) > np.median(ours) else (ours, theirs)
    spans = sorted([np.ptp(upper), np.ptp(lower)])
    if spans[1] == 0 or spans[0] / spans[1] < PEAKY:
        return CAP
    low, high = min(upper[0], lower[0]), max(upper[-1], lower[-1])
    grid = np.linspace(low, high, math.ceil((high - low) * PER_UNIT))
    best = table[len(lower) - np.searchsorted(lower, grid), np.searchsorted(upper, grid)].max()
    narrow, wide = (lower, upper) if np.ptp(upper) >= np.ptp(lower) else (upper, lower)
    offsets = np.linspace(-BUFFER, BUFFER, math.ceil(2 * BUFFER * PER_UNIT))
    right = narrow[-1] + offsets
    left = right[:, None] - (narrow[-1] - narrow[0]) + offsets
    hits, errors = (
        np.maximum(np.searchsorted(sample, right, "right")[:, None] - np.searchsorted(sample, left), 0)
        for sample in (narrow, wide)
    )
    best = max(best, table[errors, len(narrow) - hits].max())
    return min(best, CAP) if best >= 0 else CAP


def epsilons(ours, theirs):
    """Epsilon of each image; both arguments are confidences (models, images)."""
    table = table_of(len(ours))
    return np.array([epsilon(a, b, table) for a, b in zip(ours.T, theirs.T, strict=True)])


def forgetting_quality(ours, theirs):
    """Mean over the forget set of 2^-bin."""
    place = np.floor(epsilons(ours, theirs) / BIN)
    bins = int(math.ceil(math.log(len(ours) - 1)) / BIN)
    return float(np.where(place < bins, 0.5**place, 0.0).mean())
