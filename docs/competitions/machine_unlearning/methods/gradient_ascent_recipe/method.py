"""Gradient ascent on the forget set, then retraining's recipe on the retain set."""

from model import Batches, cross_entropy, descend, finish, forward, repeat

STEPS, RATE = 10, 0.04


def unlearn(model, sets, count, rng):
    """A stack of `count` unlearned models."""
    forget = Batches(sets["forget"], count, rng)

    def loss(stack):
        x, y = forget.next()
        return -cross_entropy(forward(stack, x), y)

    return finish(descend(repeat(model, count), loss, STEPS, RATE), sets["retain"], rng)
