"""SCRUB, with "min" steps at the end."""

from forgetting import RATE, forget, staying
from model import Batches, descend, repeat

EPOCHS = 6


def unlearn(model, sets, count, rng):
    """A stack of `count` models."""
    stack, retain = forget(model, sets, count, rng), Batches(sets["retain"], count, rng)
    return descend(stack, staying(repeat(model, count), retain), EPOCHS * retain.per_epoch, RATE)
