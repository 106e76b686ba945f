"""Gradient ascent on the forget set."""

from model import Batches, cross_entropy, descend, forward, repeat

STEPS, RATE = 10, 0.04


def forget(model, sets, count, rng):
    """A stack of `count` models."""
    batches = Batches(sets["forget"], count, rng)

    def loss(stack):
        x, y = batches.next()
        return -cross_entropy(forward(stack, x), y)

    return descend(repeat(model, count), loss, STEPS, RATE)
