"""Gradient ascent on the forget set, then a little fine-tuning on the retain set."""

from model import Batches, cross_entropy, descend, forward, repeat

STEPS, RATE = 10, 0.04
REPAIR_EPOCHS, REPAIR_RATE = 2, 0.02


def unlearn(model, sets, count, rng):
    """A stack of `count` unlearned models."""
    forget, retain = Batches(sets["forget"], count, rng), Batches(sets["retain"], count, rng)

    def loss(batches, sign, stack):
        x, y = batches.next()
        return sign * cross_entropy(forward(stack, x), y)

    stack = descend(repeat(model, count), lambda s: loss(forget, -1, s), STEPS, RATE)
    return descend(stack, lambda s: loss(retain, 1, s), REPAIR_EPOCHS * retain.per_epoch, REPAIR_RATE)
