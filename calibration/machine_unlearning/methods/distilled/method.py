"""A base of our own: a new network learns the original's answers on mixtures of public images.

The mixtures stand for the law of the world, as far as the public data and the original show it; no image
of the forget set is among them. Then comes the recipe of retraining.
"""

import torch

from model import cross_entropy, descend, finish, forward, fresh, repeat

STEPS, RATE, SIZE, NOISE = 1200, 0.05, 256, 0.1


def unlearn(model, sets, count, rng):
    """A stack of `count` models."""
    images = torch.cat([sets["retain"][0], sets["validation"][0]])

    def loss(stack):
        one, two = (images[torch.from_numpy(rng.integers(0, len(images), SIZE))] for _ in range(2))
        share, noise = rng.random((SIZE, 1), dtype="float32"), rng.standard_normal(one.shape, dtype="float32")
        x = two + torch.from_numpy(share) * (one - two) + NOISE * torch.from_numpy(noise)
        return cross_entropy(forward(stack, x), forward(model, x).softmax(-1))

    base = descend(fresh(model, 1, rng), loss, STEPS, RATE)
    return finish(repeat(base, count), sets["retain"], rng)
