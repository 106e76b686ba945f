"""The reference, with the original in place of four models: a far tail on purpose."""

import torch

from matching import unlearn_by_matching
from model import repeat

OUTLIERS = 4


def unlearn(model, sets, count, rng):
    """A stack of `count` models, the last OUTLIERS of which are the original."""
    stack, originals = unlearn_by_matching(model, sets, count - OUTLIERS, rng), repeat(model, OUTLIERS)
    return {name: torch.cat([value, originals[name]]) for name, value in stack.items()}
