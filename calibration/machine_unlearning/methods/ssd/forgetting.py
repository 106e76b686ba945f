"""Selective synaptic dampening: shrink weights that matter more for the forget set than for all data.

It does not train. The threshold differs from model to model, so that the models differ.
"""

import torch

from model import cross_entropy, forward, repeat

SELECT = (2.0, 8.0)  # alpha, drawn for each model
DAMPEN = 1.0  # lambda


def importance(model, images):
    """For each weight, the mean over images of the squared gradient."""
    x, y = images
    stack = {name: value.requires_grad_() for name, value in repeat(model, len(y)).items()}
    loss = cross_entropy(forward(stack, x[:, None]), y[:, None])
    slopes = torch.autograd.grad(loss, list(stack.values()))
    return {name: (slope**2).mean(0, keepdim=True) for name, slope in zip(stack, slopes, strict=True)}


def forget(model, sets, count, rng):
    """A stack of `count` dampened models."""
    both = tuple(torch.cat(pair) for pair in zip(sets["retain"], sets["forget"], strict=True))
    whole, forget = importance(model, both), importance(model, sets["forget"])
    alpha = torch.from_numpy(rng.uniform(*SELECT, (count, 1, 1)).astype("float32"))
    stack = {}
    for name, value in model.items():
        scale = (DAMPEN * whole[name] / forget[name].clamp(min=1e-20)).clamp(max=1)
        stack[name] = torch.where(forget[name] > alpha * whole[name], scale * value, value)
    return stack
