"""Noise on the hidden layers, then the recipe of retraining on the retain set."""

import torch

from model import finish, repeat

NOISE = 0.5  # in standard deviations of a layer's weights


def unlearn(model, sets, count, rng):
    """A stack of `count` models."""
    stack = repeat(model, count)
    for name in ("w0", "w1"):
        noise = rng.standard_normal(stack[name].shape).astype("float32")
        stack[name] += NOISE * model[name].std() * torch.from_numpy(noise)
    return finish(stack, sets["retain"], rng)
