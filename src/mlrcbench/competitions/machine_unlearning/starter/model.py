"""Training of stacks of networks, all models of a stack at once. Protected.

`network.py` explains what a stack is.
"""

import math

import torch

from network import CLASSES, EPOCHS, RATE, forward, fresh, new_head  # noqa: F401 (methods import from here)

MOMENTUM, DECAY = 0.9, 5e-4


def repeat(model, count):
    """A stack of `count` copies of one model."""
    return {name: value.expand(count, *value.shape[1:]).clone() for name, value in model.items()}


def cross_entropy(logits, targets):
    """Cross-entropy: the sum over models of the mean over images.

    The targets are labels, or probabilities (..., 10).
    """
    logs = logits.log_softmax(-1)
    if targets.dtype == torch.int64:
        return -logs.gather(-1, targets[..., None]).mean((1, 2)).sum()
    return -(targets * logs).sum(-1).mean(1).sum()


class Batches:
    """Endless minibatches of a set (x, y), shuffled separately for each of `count` models."""

    def __init__(self, images, count, rng, size=64):
        self.x, self.y = images
        self.count, self.rng, self.size = count, rng, min(size, len(self.y))
        self.per_epoch = len(self.y) // self.size
        self.place = len(self.y)

    def next(self):
        """The next images (models, size, ...) and labels (models, size)."""
        if self.place + self.size > len(self.y):
            order = self.rng.random((self.count, len(self.y)), dtype="float32").argsort(1)
            self.order, self.place = torch.from_numpy(order).to(self.y.device), 0
        rows = self.order[:, self.place : self.place + self.size]
        self.place += self.size
        return self.x[rows], self.y[rows]


def descend(stack, loss, steps, rate):
    """Run SGD with momentum and a cosine schedule on all models at once.

    `loss(stack)` returns a sum over models and is called once per step; `rate` is one number, or a dict of
    tensors that broadcast to the weights' shapes.
    """
    stack = {name: value.clone().requires_grad_() for name, value in stack.items()}
    speed = {name: torch.zeros_like(value) for name, value in stack.items()}
    for step in range(steps):
        slopes = torch.autograd.grad(loss(stack), list(stack.values()), allow_unused=True)
        scale = 0.5 * (1 + math.cos(math.pi * step / steps))
        with torch.no_grad():
            for (name, value), slope in zip(stack.items(), slopes, strict=True):
                speed[name].mul_(MOMENTUM).add_(value, alpha=DECAY)
                if slope is not None:
                    speed[name].add_(slope)
                value.sub_(scale * (rate[name] if isinstance(rate, dict) else rate) * speed[name])
    return {name: value.detach() for name, value in stack.items()}


def finish(stack, images, rng, epochs=EPOCHS, rate=RATE):
    """The recipe of retraining, from any stack: new last layers, then epochs on a set (x, y)."""
    stack = new_head(stack, rng)
    batches = Batches(images, len(next(iter(stack.values()))), rng)

    def loss(stack):
        x, y = batches.next()
        return cross_entropy(forward(stack, x), y)

    return descend(stack, loss, epochs * batches.per_epoch, rate)


@torch.no_grad()
def accuracy(stack, images, chunk=500):
    """Share of correct answers on a set (x, y), mean over models."""
    answers = torch.cat([forward(stack, part).argmax(-1) for part in images[0].split(chunk)], 1)
    return (answers == images[1]).double().mean().item()
