"""Data: a world of persons, a model trained on them, and models retrained without some of them.

A person is a point in a hidden space; her age group is one of ten imbalanced bins of a smooth
function of it, with an offset of her own; her four images are noisy non-linear views. A base model learns
age groups from many other persons, with one image each. From the base, the last layer drawn anew,
the original model is trained on retain and forget persons, and the N retrained models in the same
way on retain persons only, all N as one batched computation.

What keeps the short ways closed:

- The base model and its persons are never published. Retraining means to begin at the base, so
  whoever has only the retain set cannot do it, however much time there is: models trained from
  nothing miss much of the test accuracy and have other confidences. The cost of retraining is
  the training set of the base, not seconds of a clock.
- Training goes on until the retain set, and in the original the forget set, is known by heart. Confidences
  of original and retrained models on forget images lie several units apart, far more than retrained
  models differ. Whatever leaves the mean where it was, such as noise on the weights, misses them.
- Each retrained model has a last layer of its own, smaller than He-normal: retrained models differ, but
  less than their means do from image to image. One mean or one spread for all images fits few of them.
- The retain set is small against the base's, so that the retain set alone teaches little about new persons.
- Forget persons are as other persons, so no model says who they are, and their images are judged
  one by one: neither a constant nor class shares help.
- Worlds of practice, dev and test share no function, no person and no base.

Every part of every world has a random stream of its own, derived from the secret seed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from mlrcbench.competitions.machine_unlearning.scorer import Stack, confidence, forward
from mlrcbench.errors import DataError

# Sizes of an instance.
MODELS = 96
RETAIN, FORGET, IMAGES = 80, 24, 4
VALIDATION, TEST, BASE = 300, 1000, 20000

# The world.
FACTORS, PIXELS, WIDTH = 14, 64, 24
SHARES = (0.05, 0.16, 0.15, 0.13, 0.12, 0.10, 0.09, 0.08, 0.07, 0.05)
CURVATURE, OFFSET, JITTER, NOISE = 0.7, 0.05, 0.15, 0.1

# The network and its training.
LAYERS = (PIXELS, 64, 64, len(SHARES))
BATCH, MOMENTUM, DECAY = 64, 0.9, 5e-4
BASE_EPOCHS, BASE_RATE = 20, 0.05
HEAD, EPOCHS, RATE = 0.7, 32, 0.02

WORLDS = {"practice": 0, "dev": 1, "test": 2}
Images = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class World:
    """What the images of an instance's split have in common.

    Attributes:
        inner: Weights (FACTORS, WIDTH) of the age function's hidden layer.
        shift: Its biases (WIDTH,).
        outer: Its output weights (WIDTH,).
        view: Weights (FACTORS, PIXELS) from hidden factors to an image.
        light: Biases (PIXELS,) of that.
        edges: The nine boundaries between age groups.
        spread: Standard deviation of the age function.
    """

    inner: np.ndarray
    shift: np.ndarray
    outer: np.ndarray
    view: np.ndarray
    light: np.ndarray
    edges: np.ndarray
    spread: float

    def age(self, factors: np.ndarray) -> np.ndarray:
        """The age function (persons,) of hidden factors (persons, FACTORS), without personal offsets."""
        ages: np.ndarray = np.tanh(factors @ self.inner + self.shift) @ self.outer
        return ages


@dataclass(frozen=True)
class Split:
    """All that a split consists of.

    Attributes:
        sets: Images by name: retain, forget, validation, test.
        base: The model from which training begins, a stack of one.
        original: The model that is published, a stack of one.
        retrained: Stack of MODELS models trained without the forget set.
    """

    sets: dict[str, Images]
    base: Stack
    original: Stack
    retrained: Stack


def build(public: Path, private: Path, *, seed: int, tier: str) -> None:
    """Write the files of one instance.

    `public/` and the splits' `inputs/` have `model.safetensors` and `sets.safetensors`; `public/` is
    a practice world and also has `retrained.safetensors`: confidences and accuracies of its retrained
    models. `answers/` has `retrained.safetensors`, `base.safetensors` and `judge.safetensors`, all
    sets that the scorer needs.

    Args:
        public: Folder for what an agent may read at any time.
        private: Folder for the inputs and answers of both splits.
        seed: Secret-derived, 0 <= seed < 2**63; decides every byte.
        tier: "mini".

    Raises:
        DataError: For any other tier.
    """
    if tier != "mini":
        raise DataError(
            f"the {tier} tier of machine-unlearning is not built from a seed; use tier='mini', which is, "
            "or prepare the tier: mlrcbench prepare machine-unlearning --tier full"
        )
    with _alone():
        for name in WORLDS:
            print(f"machine-unlearning: train the models of {name}", flush=True)
            split = make_split(seed, name)
            _write_inputs(public if name == "practice" else private / name / "inputs", split)
            if name == "practice":
                _write_practice(public, split)
            else:
                _write_answers(private / name / "answers", split)


def make_split(seed: int, name: str) -> Split:
    """Everything of the world called `name`."""

    def stream(part: int) -> np.random.Generator:
        return np.random.default_rng([seed, WORLDS[name], part])

    world = make_world(stream(0))
    sizes = {"retain": RETAIN, "forget": FORGET, "validation": VALIDATION, "test": TEST}
    sets = {
        part: make_images(world, count, IMAGES if part in ("retain", "forget") else 1, stream(number))
        for number, (part, count) in enumerate(sizes.items(), 1)
    }
    elsewhere = make_images(world, BASE, 1, stream(5))
    base = train(initial(1, stream(6)), elsewhere, stream(7), BASE_EPOCHS, BASE_RATE)
    everyone = tuple(torch.cat(pair) for pair in zip(sets["retain"], sets["forget"], strict=True))
    original = finish(base, (everyone[0], everyone[1]), 1, stream(8))
    retrained = finish(base, sets["retain"], MODELS, stream(9))
    return Split(sets, base, original, retrained)


def make_world(rng: np.random.Generator) -> World:
    """Draw the age function and how persons look; set the age groups' boundaries by their shares."""
    inner = rng.normal(size=(FACTORS, WIDTH)) * CURVATURE / math.sqrt(FACTORS)
    shift, outer = rng.normal(size=WIDTH), rng.normal(size=WIDTH) / math.sqrt(WIDTH)
    view = rng.normal(size=(FACTORS, PIXELS)) * 1.5 / math.sqrt(FACTORS)
    light = 0.5 * rng.normal(size=PIXELS)
    ages = np.tanh(rng.normal(size=(20_000, FACTORS)) @ inner + shift) @ outer
    spread = float(ages.std())
    seen = ages + OFFSET * spread * rng.normal(size=len(ages))
    edges = np.quantile(seen, np.cumsum(SHARES)[:-1])
    return World(inner, shift, outer, view, light, edges, spread)


def make_images(world: World, persons: int, images: int, rng: np.random.Generator) -> Images:
    """Images (persons * images, PIXELS) float32 of new persons, one after the other, and age groups."""
    factors = rng.normal(size=(persons, FACTORS))
    ages = world.age(factors) + OFFSET * world.spread * rng.normal(size=persons)
    views = factors[:, None] + JITTER * rng.normal(size=(persons, images, FACTORS))
    pixels = np.tanh(views @ world.view + world.light)
    pixels = pixels + NOISE * rng.normal(size=pixels.shape)
    labels = np.repeat(np.digitize(ages, world.edges), images)
    return torch.from_numpy(pixels.reshape(-1, PIXELS).astype(np.float32)), torch.from_numpy(labels)


def initial(count: int, rng: np.random.Generator) -> dict[str, Tensor]:
    """A stack of `count` new models: He-normal weights, biases zero."""
    stack = {}
    for layer, (before, after) in enumerate(itertools.pairwise(LAYERS)):
        weights = rng.normal(0, math.sqrt(2 / before), (count, before, after))
        stack[f"w{layer}"] = torch.from_numpy(weights.astype(np.float32))
        stack[f"b{layer}"] = torch.zeros(count, 1, after)
    return stack


def finish(base: Stack, images: Images, count: int, rng: np.random.Generator) -> dict[str, Tensor]:
    """`count` models trained on `images`: the base with a new last layer each, HEAD times He-normal."""
    last = len(LAYERS) - 2
    stack = {name: value.expand(count, *value.shape[1:]) for name, value in base.items()}
    new = initial(count, rng)
    stack |= {name: HEAD * new[name] for name in (f"w{last}", f"b{last}")}
    return train(stack, images, rng, EPOCHS, RATE)


def train(
    stack: Stack, images: Images, rng: np.random.Generator, epochs: int, rate: float
) -> dict[str, Tensor]:
    """SGD with momentum and a cosine schedule on cross-entropy; batches are drawn for each model apart."""
    weights = {name: value.clone().requires_grad_() for name, value in stack.items()}
    speed = {name: torch.zeros_like(value) for name, value in weights.items()}
    count, per_epoch = len(weights["w0"]), len(images[1]) // BATCH
    steps = epochs * per_epoch
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.from_numpy(rng.random((count, len(images[1])), dtype=np.float32).argsort(1))
        rows = order[:, step % per_epoch * BATCH :][:, :BATCH]
        logs = forward(weights, images[0][rows]).log_softmax(-1)
        loss = -logs.gather(-1, images[1][rows][..., None]).mean((1, 2)).sum()
        slopes = torch.autograd.grad(loss, list(weights.values()))
        scale = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        with torch.no_grad():
            for (name, value), slope in zip(weights.items(), slopes, strict=True):
                speed[name].mul_(MOMENTUM).add_(slope).add_(value, alpha=DECAY)
                value.sub_(speed[name], alpha=scale)
    return {name: value.detach() for name, value in weights.items()}


def _write_inputs(folder: Path, split: Split) -> None:
    """What a method is given."""
    _save(folder / "model.safetensors", split.original)
    _save(folder / "sets.safetensors", _flat(split, "retain", "forget", "validation"))


def _write_practice(folder: Path, split: Split) -> None:
    """What the practice world's retrained models say, but not their weights."""
    told = {
        f"{name}_accuracy": (forward(split.retrained, x).argmax(-1) == y).float().mean(1)
        for name, (x, y) in split.sets.items()
        if name != "test"
    }
    x, y = split.sets["forget"]
    told["forget_confidence"] = torch.from_numpy(confidence(forward(split.retrained, x), y))
    _save(folder / "retrained.safetensors", told)


def _write_answers(folder: Path, split: Split) -> None:
    """What the scorer needs, and the base, from which further retrained models can be made."""
    _save(folder / "retrained.safetensors", split.retrained)
    _save(folder / "base.safetensors", split.base)
    _save(folder / "judge.safetensors", _flat(split, "retain", "forget", "test"))


def _flat(split: Split, *names: str) -> dict[str, Tensor]:
    return {
        f"{name}_{part}": tensor
        for name in names
        for part, tensor in zip("xy", split.sets[name], strict=True)
    }


def _save(path: Path, tensors: Stack) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)


@contextmanager
def _alone() -> Iterator[None]:
    """One torch thread inside, as many as before outside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
