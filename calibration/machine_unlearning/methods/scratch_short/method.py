"""Retraining from scratch on the retain set, stopped early: the best of 8 to 32 epochs at two rates."""

from model import Batches, cross_entropy, descend, forward, fresh

EPOCHS, RATE = 8, 0.05


def unlearn(model, sets, count, rng):
    """A stack of `count` models that never saw the original."""
    retain = Batches(sets["retain"], count, rng)

    def loss(stack):
        x, y = retain.next()
        return cross_entropy(forward(stack, x), y)

    return descend(fresh(model, count, rng), loss, EPOCHS * retain.per_epoch, RATE)
