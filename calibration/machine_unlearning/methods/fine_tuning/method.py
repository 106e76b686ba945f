"""Two epochs of fine-tuning on the retain set; every layer starts from the original's weights."""

from model import Batches, cross_entropy, descend, forward, repeat

EPOCHS, RATE = 2, 0.02


def unlearn(model, sets, count, rng):
    """A stack of `count` unlearned models."""
    batches = Batches(sets["retain"], count, rng)

    def loss(stack):
        x, y = batches.next()
        return cross_entropy(forward(stack, x), y)

    return descend(repeat(model, count), loss, EPOCHS * batches.per_epoch, RATE)
