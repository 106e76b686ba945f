"""Features that predict a retrained model's mean confidence on each forget image, and a ridge regression."""

import torch

from matching import log_odds
from model import CLASSES, Batches, cross_entropy, descend, finish, forward, fresh, repeat

MODELS, RIDGE = 12, 3.0
ERASE_STEPS, ERASE_WEIGHT, ERASE_RATE = 24, 0.5, 0.03


def mean_confidences(model, sets, rng):
    """Mean confidences (images, features) of the recipe, of two other methods and of the original."""
    x, y = sets["forget"]
    both = tuple(torch.cat(pair) for pair in zip(sets["retain"], sets["validation"], strict=True))
    batches, uniform = Batches(sets["forget"], MODELS, rng), torch.full((CLASSES,), 1 / CLASSES)

    def erasing(stack):
        return ERASE_WEIGHT * cross_entropy(forward(stack, batches.next()[0]), uniform)

    erased = descend(repeat(model, MODELS), erasing, ERASE_STEPS, ERASE_RATE)
    stacks = (
        finish(repeat(model, MODELS), sets["retain"], rng),
        finish(erased, sets["retain"], rng, 8),
        finish(fresh(model, MODELS, rng), both, rng, 8),
        model,
    )
    with torch.no_grad():
        columns = [log_odds(forward(stack, x), y).mean(0) for stack in stacks]
    return torch.stack([*columns, torch.ones(len(y))], 1)


def fit(pairs):
    """Coefficients (features,) of a ridge regression on pairs of features and means."""
    features, means = (torch.cat(parts).double() for parts in zip(*pairs, strict=True))
    penalty = RIDGE * torch.eye(features.shape[1], dtype=torch.float64)
    return torch.linalg.solve(features.T @ features + penalty, features.T @ means).float()


def predict(coefficients, features):
    """Predicted means (images,)."""
    return features @ coefficients
