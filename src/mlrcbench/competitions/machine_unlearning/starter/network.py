"""The network, and the constants of the recipe that belong to it. Protected.

A *stack* is a dict of tensors `w0, b0, w1, b1, w2, b2`: `w` has shape (models, in, out) and `b`
(models, 1, out). A single model is a stack of one. Images are rows of 64 numbers. The network is
`x -> relu(x w0 + b0) -> relu(. w1 + b1) -> . w2 + b2` and gives ten logits.
"""

import math

import torch
from torch.nn import functional

CLASSES = 10
HEAD, EPOCHS, RATE = 0.7, 24, 0.08  # of `finish`, and of retraining


def forward(stack, x, hidden=False):
    """Logits (models, images, 10) of images x.

    `x` is (images, 64), or (models, images, 64) if each model has its own images. With `hidden=True`, the
    inputs (models, images, 64) of the last layer are returned instead.
    """
    layers = len(stack) // 2
    x = x.expand(len(stack["w0"]), -1, -1)
    for layer in range(layers - hidden):
        x = torch.baddbmm(stack[f"b{layer}"], x, stack[f"w{layer}"])
        if layer < layers - 1:
            x = functional.relu(x)
    return x


def fresh(model, count, rng):
    """A stack of `count` newly initialised networks of the same shape: He-normal weights, zero biases."""
    stack = {}
    for name, value in model.items():
        shape = (count, *value.shape[1:])
        scale = math.sqrt(2 / shape[1]) if name[0] == "w" else 0.0
        stack[name] = torch.from_numpy((scale * rng.standard_normal(shape)).astype("float32"))
    return stack


def new_head(stack, rng):
    """The same stack with a new last layer for each model: weights HEAD times He-normal, zero biases."""
    drawn = fresh({name: stack[name] for name in ("w2", "b2")}, len(stack["w2"]), rng)
    return stack | {name: HEAD * value for name, value in drawn.items()}
