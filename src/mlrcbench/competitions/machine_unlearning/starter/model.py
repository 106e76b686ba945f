"""Stacks of networks, and how to train all of them at once. Protected.

A *stack* is a dict of tensors `w0, b0, w1, b1, w2, b2`: `w` has shape (models, in, out) and `b`
(models, 1, out). One model is a stack of one. Images are rows of 64 numbers. The network is
`x -> relu(x w0 + b0) -> relu(. w1 + b1) -> . w2 + b2`, ten logits.
"""

import math

import torch
from torch.nn import functional

CLASSES = 10
MOMENTUM, DECAY = 0.9, 5e-4


def forward(stack, x, hidden=False):
    """Logits (models, images, 10) of x (images, 64), or (models, images, 64) with images of their own.

    With `hidden=True`, the inputs (models, images, 64) of the last layer instead.
    """
    layers = len(stack) // 2
    x = x.expand(len(stack["w0"]), -1, -1)
    for layer in range(layers - hidden):
        x = torch.baddbmm(stack[f"b{layer}"], x, stack[f"w{layer}"])
        if layer < layers - 1:
            x = functional.relu(x)
    return x


def repeat(model, count):
    """A stack of `count` copies of one model."""
    return {name: value.expand(count, *value.shape[1:]).clone() for name, value in model.items()}


def fresh(model, count, rng):
    """A stack of `count` newly initialised networks of the same shape (weights He-normal, biases zero)."""
    stack = {}
    for name, value in model.items():
        shape = (count, *value.shape[1:])
        scale = math.sqrt(2 / shape[1]) if name[0] == "w" else 0.0
        stack[name] = torch.from_numpy((scale * rng.standard_normal(shape)).astype("float32"))
    return stack


def cross_entropy(logits, targets):
    """Sum over models of the mean over images; targets are labels or probabilities (..., 10)."""
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
        """Images (models, size, 64) and labels (models, size)."""
        if self.place + self.size > len(self.y):
            order = self.rng.random((self.count, len(self.y)), dtype="float32").argsort(1)
            self.order, self.place = torch.from_numpy(order), 0
        rows = self.order[:, self.place : self.place + self.size]
        self.place += self.size
        return self.x[rows], self.y[rows]


def descend(stack, loss, steps, rate):
    """SGD with momentum and a cosine schedule on all models at once.

    `loss(stack)` is a sum over models, called once a step; `rate` is one number, or a dict of
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


@torch.no_grad()
def accuracy(stack, images):
    """Share of right answers on a set (x, y), mean over models."""
    return (forward(stack, images[0]).argmax(-1) == images[1]).double().mean().item()
