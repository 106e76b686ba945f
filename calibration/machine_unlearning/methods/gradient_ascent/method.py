"""Gradient ascent on the forget set, then a little fine-tuning on the retain set."""

from forgetting import forget
from model import Batches, cross_entropy, descend, forward

EPOCHS, RATE = 2, 0.02


def unlearn(model, sets, count, rng):
    """A stack of `count` models."""
    stack, retain = forget(model, sets, count, rng), Batches(sets["retain"], count, rng)

    def loss(stack):
        x, y = retain.next()
        return cross_entropy(forward(stack, x), y)

    return descend(stack, loss, EPOCHS * retain.per_epoch, RATE)
