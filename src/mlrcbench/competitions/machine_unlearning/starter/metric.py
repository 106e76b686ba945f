"""The forgetting quality, for practice. Protected; the scorer has its own copy.

The statement has the formula. `epsilons` shows for each image how well an attack succeeds.
"""

import numpy as np
import torch


def confidence(logits, labels):
    """Confidences log p(label) - log(1 - p(label)) as an array (models, images)."""
    probabilities = logits.detach().double().softmax(-1)
    index = labels.expand(len(logits), -1)[..., None]
    right = probabilities.gather(-1, index)[..., 0]
    wrong = probabilities.scatter(-1, index, 0.0).sum(-1)
    return (torch.log(right + 1e-45) - torch.log(wrong + 1e-45)).numpy()


def thresholds(ours, theirs):
    """The largest epsilon of all thresholds, for each image; both arguments are (models, images)."""
    values = np.concatenate([ours, theirs])
    below = [((sample <= values[:, None]).sum(1) + 1) / (len(sample) + 2) for sample in (ours, theirs)]
    ratios = [np.log(a) - np.log(b) for a, b in (below, [1 - rate for rate in below])]
    return np.abs(ratios).max((0, 1))


def epsilons(ours, theirs):
    """Epsilon of each image; both arguments are confidences (models, images)."""
    median = np.median(theirs, 0)
    return np.maximum(thresholds(ours, theirs), thresholds(np.abs(ours - median), np.abs(theirs - median)))


def forgetting_quality(ours, theirs):
    """Mean over the forget set of 2^-(epsilon / 0.5)."""
    return float((0.5 ** (2 * epsilons(ours, theirs))).mean())
