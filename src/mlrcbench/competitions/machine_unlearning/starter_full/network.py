"""The network, and the constants of the recipe that belong to it. Protected.

A *stack* is a dict of tensors by name, each with the models as its first dimension. A single model is a
stack of one, and a method makes one model at a time. Images are uint8, (images, 3, 32, 32). The network is a
ResNet-18 for small images: a convolution `stem.w`, four stages of two blocks, `0.0.first.w` to
`3.1.second.w`, the mean over pixels, and the last layer `head.w`, `head.b`. Each convolution is followed by
a group norm, `scale` and `shift`; there are no running statistics.
"""

import math

import torch
from torch.nn import functional

CLASSES = 10
HEAD, EPOCHS, RATE = 0.7, 10, 0.03  # of `finish`; retraining has the same HEAD and EPOCHS, and rate 0.02
GROUPS, MEAN, DEVIATION = 32, 120.0, 64.0
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def forward(stack, x, hidden=False):
    """Logits (models, images, 10) of images x.

    `x` is (images, 3, 32, 32), or (models, images, 3, 32, 32) if each model has its own images. With
    `hidden=True`, the inputs (models, images, 512) of the last layer are returned instead. On a GPU, the
    computation is in bfloat16.
    """
    answers = []
    for place in range(len(stack["head.w"])):
        model = {name: value[place] for name, value in stack.items()}
        with torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda"):
            answers.append(one(model, x[place] if x.dim() == 5 else x, hidden).float())
    return torch.stack(answers)


def one(model, x, hidden):
    """Logits of one model, whose tensors lack the dimension of models."""

    def layer(name, x, stride=1):
        weight, scale, shift = (model[f"{name}.{part}"] for part in ("w", "scale", "shift"))
        x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        return functional.group_norm(x, math.gcd(GROUPS, len(scale)), scale, shift)

    x = functional.relu(layer("stem", (x.float() - MEAN) / DEVIATION))
    for name in sorted(name.removesuffix(".first.w") for name in model if name.endswith(".first.w")):
        widens = f"{name}.skip.w" in model
        y = functional.relu(layer(f"{name}.first", x, 2 if widens else 1))
        y = layer(f"{name}.second", y)
        x = functional.relu(y + (layer(f"{name}.skip", x, 2) if widens else x))
    x = x.mean((2, 3))
    return x if hidden else functional.linear(x, model["head.w"], model["head.b"])


def fresh(model, count, rng):
    """A stack of `count` new networks of the same shape: He-normal weights, scales one, the rest zero."""
    stack = {}
    for name, value in model.items():
        shape = (count, *value.shape[1:])
        stack[name] = torch.full(shape, float(name.endswith(".scale")), device=value.device)
        if name.endswith(".w"):
            drawn = torch.from_numpy(rng.standard_normal(shape, dtype="float32"))
            stack[name] += math.sqrt(2 / math.prod(shape[2:])) * drawn.to(value.device)
    return stack


def new_head(stack, rng):
    """The same stack with a new last layer for each model: weights HEAD times He-normal, zero biases."""
    drawn = fresh({name: stack[name] for name in ("head.w", "head.b")}, len(stack["head.w"]), rng)
    return stack | {name: HEAD * value for name, value in drawn.items()}
