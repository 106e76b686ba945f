"""Noise on the weights, and nothing else."""

import torch

NOISE = 0.2  # in standard deviations of a layer's weights


def unlearn(model, sets, count, rng):
    """A stack of `count` noisy copies."""
    stack = {}
    for name, value in model.items():
        noise = rng.standard_normal((count, *value.shape[1:])).astype("float32")
        stack[name] = value + NOISE * value.std() * torch.from_numpy(noise) * (name[0] == "w")
    return stack
