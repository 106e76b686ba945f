"""The unlearning method: change this file.

Baseline: two epochs of fine-tuning on the retain set, in the hope that what is not
rehearsed is forgotten.
"""

from model import Batches, cross_entropy, descend, forward, repeat

EPOCHS, RATE = 2, 0.02


def unlearn(model, sets, count, rng):
    """A stack of `count` unlearned models.

    Args:
        model: The trained model, a stack of one (see model.py).
        sets: "retain", "forget" and "validation", each (x, y): images (n, 64) float32, labels (n,) int64.
        count: How many models; they should differ as retrained models would.
        rng: The numpy generator from which to draw everything random.
    """
    batches = Batches(sets["retain"], count, rng)

    def loss(stack):
        x, y = batches.next()
        return cross_entropy(forward(stack, x), y)

    return descend(repeat(model, count), loss, EPOCHS * batches.per_epoch, RATE)
