"""First place (fanchuan): first uniform outputs, then contrast and repair in turn.

One pass pushes the outputs on the forget set to uniform. Then each round has a contrastive step, which moves
the hidden features of forget images away from those of retain images, with a decaying rate, and steps of
fine-tuning on the retain set.
"""

import torch

from model import CLASSES, Batches, cross_entropy, descend, forward, repeat

UNIFORM_STEPS, UNIFORM_RATE = 16, 0.05
ROUNDS, CONTRAST_RATE, TEMPERATURE = 8, 0.05, 1.15
REPAIR_STEPS, REPAIR_RATE = 6, 0.25


def forget(model, sets, count, rng):
    """A stack of `count` models."""
    forgotten, retain = Batches(sets["forget"], count, rng), Batches(sets["retain"], count, rng)
    targets = torch.full((CLASSES,), 1 / CLASSES)

    def uniform(stack):
        return cross_entropy(forward(stack, forgotten.next()[0]), targets)

    def contrast(stack):
        ours = forward(stack, forgotten.next()[0], hidden=True)
        theirs = forward(stack, retain.next()[0], hidden=True).detach()
        alike = torch.bmm(ours, theirs.transpose(1, 2)) / (TEMPERATURE * ours.shape[-1] ** 0.5)
        return -alike.log_softmax(-1).mean((1, 2)).sum()

    stack = descend(repeat(model, count), uniform, UNIFORM_STEPS, UNIFORM_RATE)
    for number in range(ROUNDS):
        stack = descend(stack, contrast, 1, CONTRAST_RATE * (1 - number / ROUNDS))
        stack = descend(stack, repairing(retain), REPAIR_STEPS, REPAIR_RATE)
    return stack


def repairing(retain):
    """The loss of fine-tuning."""

    def repair(stack):
        x, y = retain.next()
        return cross_entropy(forward(stack, x), y)

    return repair
