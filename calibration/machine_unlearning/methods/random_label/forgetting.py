"""Random labels for the forget set, true labels for the retain set, learnt together."""

import torch

from model import CLASSES, Batches, cross_entropy, descend, forward, repeat

EPOCHS, RATE, WEIGHT = 4, 0.02, 0.1


def forget(model, sets, count, rng):
    """A stack of `count` unlearned models; each has its own random labels, which never change."""
    x, _ = sets["forget"]
    wrong = torch.from_numpy(rng.integers(0, CLASSES, (count, len(x))))
    retain = Batches(sets["retain"], count, rng)

    def loss(stack):
        images, labels = retain.next()
        retained = cross_entropy(forward(stack, images), labels)
        return retained + WEIGHT * cross_entropy(forward(stack, x), wrong)

    return descend(repeat(model, count), loss, EPOCHS * retain.per_epoch, RATE)
