"""Predict what a retrained model would answer, and match it.

Our own implementation of the idea of Georgiev et al. 2024 (Attribute-to-Delete: Machine Unlearning via
Datamodel Matching): first predict the outputs that retrained models would have on the forget set, then
fine-tune towards these outputs. The prediction starts from retraining's recipe, whose mean confidences are
too high by an amount that grows with themselves; the line that corrects them was fitted on other worlds.
Each model is moved by the same amount on an image, so that the models differ from each other as before.
"""

import torch
from torch.nn import functional

from model import Batches, cross_entropy, descend, finish, forward, repeat

SLOPE, OFFSET = 0.8, -1.4  # mean confidence of retrained models, from that of the recipe's models
STEPS, RATE, WEIGHT, VALIDATION = 50, 0.05, 1.0, 0.5


def log_odds(logits, labels):
    """Confidences (models, images) of the labels, as tensors."""
    index = labels.expand(len(logits), -1)[..., None]
    return logits.gather(-1, index)[..., 0] - logits.scatter(-1, index, -1e9).logsumexp(-1)


def corrected(confidences):
    """Confidences (models, images) of recipe models, with the means that retrained models would have."""
    return confidences + (SLOPE - 1) * confidences.mean(0) + OFFSET


def match(stack, sets, targets, rng, steps=STEPS):
    """Fine-tune a stack towards target confidences (models, images) on the forget set."""
    x, y = sets["forget"]
    rows = Batches((x, torch.arange(len(y), device=y.device)), 1, rng)
    retain = Batches(sets["retain"], len(targets), rng)
    validation = Batches(sets["validation"], len(targets), rng, 32)

    def loss(stack):
        total = 0.0
        for batches, weight in ((retain, 1.0), (validation, VALIDATION)):
            images, labels = batches.next()
            total = total + weight * cross_entropy(forward(stack, images), labels)
        chosen = rows.next()[1][0]
        values = log_odds(forward(stack, x[chosen]), y[chosen])
        misses = functional.smooth_l1_loss(values, targets[:, chosen], reduction="none")
        return total + WEIGHT * misses.mean(1).sum()

    return descend(stack, loss, steps, RATE)


def unlearn_by_matching(model, sets, count, rng, steps=STEPS):
    """A stack of `count` unlearned models; the module's docstring explains the method."""
    stack = finish(repeat(model, count), sets["retain"], rng)
    x, y = sets["forget"]
    with torch.no_grad():
        recipe = log_odds(torch.cat([forward(stack, part) for part in x.split(500)], 1), y)
    return match(stack, sets, corrected(recipe), rng, steps)
