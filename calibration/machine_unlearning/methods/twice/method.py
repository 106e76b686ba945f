"""The reference, with every model twice: each confidence is an exact tie of two."""

import torch

from matching import unlearn_by_matching


def unlearn(model, sets, count, rng):
    """A stack of `count` models, of which every second is a copy."""
    stack = unlearn_by_matching(model, sets, count // 2, rng)
    return {name: torch.cat([value, value]) for name, value in stack.items()}
