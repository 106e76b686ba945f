"""The reference, with noise on the final weights."""

import torch

from matching import unlearn_by_matching

NOISE = 0.05  # in standard deviations of a layer's weights


def unlearn(model, sets, count, rng):
    """A stack of `count` noisy models."""
    stack = unlearn_by_matching(model, sets, count, rng)
    for name, value in stack.items():
        noise = rng.standard_normal(value.shape).astype("float32")
        stack[name] = value + NOISE * value.std() * torch.from_numpy(noise)
    return stack
