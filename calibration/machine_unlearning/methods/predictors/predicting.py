"""Match the predictions of a regression."""

import torch

from fitting import fit, mean_confidences, predict
from matching import log_odds, match
from model import finish, forward, repeat


def matched(model, sets, count, rng, pairs):
    """Match the predictions of a line that is fitted on pairs of features and retrained means."""
    stack, (x, y) = finish(repeat(model, count), sets["retain"], rng), sets["forget"]
    with torch.no_grad():
        recipe = log_odds(forward(stack, x), y)
    means = predict(fit(pairs), mean_confidences(model, sets, rng))
    return match(stack, sets, recipe - recipe.mean(0) + means, rng)
