"""The hidden retraining's own recipe, begun at the original model instead of the base.

A new last layer, then as many epochs at the same rate as the retrained models have.
"""

from model import Batches, cross_entropy, descend, forward, fresh, repeat

HEAD, EPOCHS, RATE = 0.7, 32, 0.02


def unlearn(model, sets, count, rng):
    """A stack of `count` models."""
    stack, new = repeat(model, count), fresh(model, count, rng)
    stack |= {name: HEAD * new[name] for name in ("w2", "b2")}
    retain = Batches(sets["retain"], count, rng)

    def loss(stack):
        x, y = retain.next()
        return cross_entropy(forward(stack, x), y)

    return descend(stack, loss, EPOCHS * retain.per_epoch, RATE)
