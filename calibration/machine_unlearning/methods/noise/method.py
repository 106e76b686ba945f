"""Noise on the weights, then fine-tuning on the retain set for as many epochs as retraining has."""

import torch

from model import Batches, cross_entropy, descend, forward, repeat

NOISE, EPOCHS, RATE = 0.5, 32, 0.04


def unlearn(model, sets, count, rng):
    """A stack of `count` models."""
    stack = repeat(model, count)
    for name in ("w0", "w1", "w2"):
        noise = rng.standard_normal(stack[name].shape).astype("float32")
        stack[name] += NOISE * model[name].std() * torch.from_numpy(noise)
    retain = Batches(sets["retain"], count, rng)

    def loss(stack):
        x, y = retain.next()
        return cross_entropy(forward(stack, x), y)

    return descend(stack, loss, EPOCHS * retain.per_epoch, RATE)
