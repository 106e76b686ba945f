"""First place (fanchuan): uniform outputs, contrast and repair in turn, and a longer repair at the end."""

from forgetting import REPAIR_RATE, forget, repairing
from model import Batches, descend

EPOCHS = 5


def unlearn(model, sets, count, rng):
    """A stack of `count` models."""
    stack, retain = forget(model, sets, count, rng), Batches(sets["retain"], count, rng)
    return descend(stack, repairing(retain), EPOCHS * retain.per_epoch, REPAIR_RATE)
