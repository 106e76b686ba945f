"""Erase, re-initialise, learn again.

Own implementation of ideas of the NeurIPS 2023 Machine Unlearning Challenge's best entries. The
first place (fanchuan) erases before it repairs: the answers on the forget set are pushed to
uniform. The second (Kookmin) re-initialises weights and learns the retain set anew. Here both: a few
steps to uniform take the forget set out of the hidden layers, then every model gets a last
layer of its own, and all are trained on the retain set, hard enough to move the hidden layers.
"""

import torch

from model import CLASSES, Batches, cross_entropy, descend, finish, forward, repeat

ERASE_STEPS, ERASE_WEIGHT, ERASE_RATE = 24, 0.5, 0.03
EPOCHS, RATE = 8, 0.08


def unlearn(model, sets, count, rng):
    """A stack of `count` unlearned models; see the module's text."""
    targets = torch.full((CLASSES,), 1 / CLASSES, device=sets["forget"][1].device)
    erase = Batches(sets["forget"], count, rng)

    def forgetting(stack):
        x, _ = erase.next()
        return ERASE_WEIGHT * cross_entropy(forward(stack, x), targets)

    stack = descend(repeat(model, count), forgetting, ERASE_STEPS, ERASE_RATE)
    print("erased", flush=True)
    return finish(stack, sets["retain"], rng, EPOCHS, RATE)
