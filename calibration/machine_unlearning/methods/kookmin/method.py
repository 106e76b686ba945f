"""Second place (Kookmin): re-initialise by gradient ratio, then learn the retain set.

Weights whose gradient on the forget set is large compared with that on the retain set are drawn again; the
other weights learn more slowly.
"""

import torch

from model import Batches, cross_entropy, descend, forward, fresh, repeat

SHARE, EPOCHS, RATE, SLOW = 0.15, 8, 0.08, 0.3


def gradients(model, images):
    """Gradient of the mean loss with respect to each weight."""
    model = {name: value.clone().requires_grad_() for name, value in model.items()}
    loss = cross_entropy(forward(model, images[0]), images[1][None])
    return dict(zip(model, torch.autograd.grad(loss, list(model.values())), strict=True))


def unlearn(model, sets, count, rng):
    """A stack of `count` models."""
    forget, retained = gradients(model, sets["forget"]), gradients(model, sets["retain"])
    stack, initial, rates = repeat(model, count), fresh(model, count, rng), {}
    for name in stack:
        ratio = forget[name].abs() / (retained[name].abs() + 1e-8)
        drawn = ratio > ratio.quantile(1 - SHARE) if name[0] == "w" else torch.zeros_like(ratio).bool()
        stack[name] = torch.where(drawn, initial[name], stack[name])
        rates[name] = torch.where(drawn, RATE, SLOW * RATE)
    retain = Batches(sets["retain"], count, rng)

    def loss(stack):
        x, y = retain.next()
        return cross_entropy(forward(stack, x), y)

    return descend(stack, loss, EPOCHS * retain.per_epoch, rates)
