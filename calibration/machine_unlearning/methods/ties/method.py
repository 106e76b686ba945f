"""The reference, with exact ties in the tails: the models of extreme confidence become copies of others."""

import torch

from matching import log_odds, unlearn_by_matching
from model import forward

TAIL = 6


def unlearn(model, sets, count, rng):
    """A stack of `count` models, of which the TAIL lowest are equal, and the TAIL highest too."""
    stack = unlearn_by_matching(model, sets, count, rng)
    x, y = sets["forget"]
    order = log_odds(forward(stack, x), y).mean(1).argsort()
    rows = torch.arange(count)
    rows[order[:TAIL]], rows[order[-TAIL:]] = order[TAIL], order[-TAIL - 1]
    return {name: value[rows] for name, value in stack.items()}
