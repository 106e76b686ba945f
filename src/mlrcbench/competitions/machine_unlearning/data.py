"""Data: worlds of people, a model trained on each, and models retrained without some of the people.

A person is a point in a hidden space. The age group is one of ten imbalanced bins of a smooth function
of that point, plus a personal offset; the image is a noisy non-linear view of it. A base model
learns age groups from many other people. The original model is the base with a
newly drawn last layer, trained on retain and forget people. The N retrained models are made in the same
way from retain people only, all N as one batched computation.

Shortcuts that the generator rules out:

- The base model and its people are never published. Retraining starts from the base, so a method that has
  only the retain set cannot retrain, however much time it has: models trained from scratch lose much of
  the test accuracy and have other confidences. The cost of retraining is the training set of the base,
  not seconds of a clock.
- Training continues until the retain set, and in the original also the forget set, is memorised. On forget
  images, confidences of original and retrained models lie several units apart, far more than retrained
  models differ. A method that leaves the mean where it was, such as noise on the weights, misses them.
- Each retrained model has its own last layer, smaller than He-normal: retrained models differ, but less
  than their means differ from image to image. One mean or one spread for all images fits few of them.
- The retain set is small compared with the base's, so the retain set alone teaches little about new people.
- Forget people are drawn like all others, so no model reveals who they are, and their images are judged
  one by one: neither a constant nor class shares help.
- No two worlds share a function, a person or a base. Dev and test have several worlds each, because one
  world's images are too few for a steady score.

Every part of every world has its own random stream, derived from the secret seed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from mlrcbench.competitions.machine_unlearning.scorer import Stack, confidence, forward

# Sizes of a world.
MODELS = 48
RETAIN, FORGET = 240, 120
VALIDATION, TEST, BASE = 300, 600, 8000

# The world.
FACTORS, PIXELS, WIDTH = 14, 64, 24
SHARES = (0.05, 0.16, 0.15, 0.13, 0.12, 0.10, 0.09, 0.08, 0.07, 0.05)
CURVATURE, OFFSET, JITTER, NOISE = 0.7, 0.05, 0.15, 0.1

# The network and its training.
LAYERS = (PIXELS, 64, 64, len(SHARES))
BATCH, MOMENTUM, DECAY = 64, 0.9, 5e-4
BASE_BATCH, BASE_EPOCHS, BASE_RATE = 128, 15, 0.08
HEAD, EPOCHS, RATE = 0.7, 24, 0.08

SPLITS = {"practice": 0, "dev": 1, "test": 2}
WORLDS = {"practice": 2, "dev": 4, "test": 4}
Images = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class World:
    """The random functions that all images of one world have in common.

    Attributes:
        inner: Weights (FACTORS, WIDTH) of the age function's hidden layer.
        shift: Biases (WIDTH,) of that hidden layer.
        outer: Output weights (WIDTH,) of the age function.
        view: Weights (FACTORS, PIXELS) from hidden factors to an image.
        light: Biases (PIXELS,) from hidden factors to an image.
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
        """Ages (people,) of hidden factors (people, FACTORS), without personal offsets."""
        ages: np.ndarray = np.tanh(factors @ self.inner + self.shift) @ self.outer
        return ages


@dataclass(frozen=True)
class Case:
    """Everything that belongs to one world.

    Attributes:
        sets: Images by name: retain, forget, validation, test.
        base: The model from which training starts, a stack of one.
        original: The published model, a stack of one.
        retrained: The MODELS models trained without the forget set, as a stack.
    """

    sets: dict[str, Images]
    base: Stack
    original: Stack
    retrained: Stack


def build(public: Path, private: Path, *, seed: int, tier: str) -> None:  # noqa: ARG001 (always the same)
    """Write the files of one instance.

    `public/` and the splits' `inputs/` have `model.safetensors` and `sets.safetensors`; `public/` has
    practice worlds and also `retrained.safetensors`: confidences and accuracies of their retrained
    models. `answers/` has `retrained.safetensors`, `base.safetensors` and `judge.safetensors`, all
    sets that the scorer needs. The first dimension of all tensors counts the worlds.

    Args:
        public: Folder for the files that an agent may read at any time.
        private: Folder for the inputs and answers of both splits.
        seed: Number derived from the secret, 0 <= seed < 2**63; decides every byte.
        tier: Always "mini"; the full tier is converted, not built.
    """
    for name in SPLITS:
        print(f"machine-unlearning: train the models of {name}", flush=True)
        cases = make_cases(seed, name, WORLDS[name])
        _write_inputs(public if name == "practice" else private / name / "inputs", cases)
        if name == "practice":
            _write_practice(public, cases)
        else:
            _write_answers(private / name / "answers", cases)


def make_cases(seed: int, name: str, count: int) -> list[Case]:
    """Draw `count` worlds of the split called `name`, and train their models."""

    def stream(number: int, part: int) -> np.random.Generator:
        return np.random.default_rng([seed, SPLITS[name], number, part])

    worlds = [make_world(stream(number, 0)) for number in range(count)]
    people = [make_images(world, BASE, stream(number, 5)) for number, world in enumerate(worlds)]
    images = (torch.stack([x for x, _ in people]), torch.stack([y for _, y in people]))
    bases = initial(count, stream(count, 6))
    bases = train(bases, images, stream(count, 7), BASE_EPOCHS, BASE_RATE, batch=BASE_BATCH)
    cases = []
    for number, world in enumerate(worlds):
        sets = make_sets(world, [stream(number, part) for part in range(1, 5)])
        base = {key: value[number : number + 1] for key, value in bases.items()}
        x, y = (torch.cat(pair) for pair in zip(sets["retain"], sets["forget"], strict=True))
        original = finish(base, (x, y), 1, stream(number, 8))
        retrained = finish(base, sets["retain"], MODELS, stream(number, 9))
        cases.append(Case(sets, base, original, retrained))
    return cases


def make_sets(world: World, streams: list[np.random.Generator]) -> dict[str, Images]:
    """Draw the retain, forget, validation and test images of a world, each from its own stream."""
    sizes = {"retain": RETAIN, "forget": FORGET, "validation": VALIDATION, "test": TEST}
    return {
        name: make_images(world, people, stream)
        for (name, people), stream in zip(sizes.items(), streams, strict=True)
    }


def make_world(rng: np.random.Generator) -> World:
    """Draw the age function and the look of people; set the age groups' boundaries by their shares."""
    inner = rng.normal(size=(FACTORS, WIDTH)) * CURVATURE / math.sqrt(FACTORS)
    shift, outer = rng.normal(size=WIDTH), rng.normal(size=WIDTH) / math.sqrt(WIDTH)
    view = rng.normal(size=(FACTORS, PIXELS)) * 1.5 / math.sqrt(FACTORS)
    light = 0.5 * rng.normal(size=PIXELS)
    ages = np.tanh(rng.normal(size=(20_000, FACTORS)) @ inner + shift) @ outer
    spread = float(ages.std())
    apparent = ages + OFFSET * spread * rng.normal(size=len(ages))
    edges = np.quantile(apparent, np.cumsum(SHARES)[:-1])
    return World(inner, shift, outer, view, light, edges, spread)


def make_images(world: World, people: int, rng: np.random.Generator) -> Images:
    """Images (people, PIXELS) float32 of new people, and their age groups (people,)."""
    factors = rng.normal(size=(people, FACTORS))
    ages = world.age(factors) + OFFSET * world.spread * rng.normal(size=people)
    views = factors + JITTER * rng.normal(size=(people, FACTORS))
    pixels = np.tanh(views @ world.view + world.light)
    pixels = pixels + NOISE * rng.normal(size=pixels.shape)
    labels = np.digitize(ages, world.edges)
    return torch.from_numpy(pixels.astype(np.float32)), torch.from_numpy(labels)


def initial(count: int, rng: np.random.Generator) -> dict[str, Tensor]:
    """A stack of `count` new models: He-normal weights, zero biases."""
    stack = {}
    for layer, (before, after) in enumerate(itertools.pairwise(LAYERS)):
        weights = rng.normal(0, math.sqrt(2 / before), (count, before, after))
        stack[f"w{layer}"] = torch.from_numpy(weights.astype(np.float32))
        stack[f"b{layer}"] = torch.zeros(count, 1, after)
    return stack


def finish(base: Stack, images: Images, count: int, rng: np.random.Generator) -> dict[str, Tensor]:
    """Train `count` models on `images`: each is the base with a new last layer, HEAD times He-normal."""
    last = len(LAYERS) - 2
    stack = {name: value.expand(count, *value.shape[1:]) for name, value in base.items()}
    fresh = initial(count, rng)
    stack |= {name: HEAD * fresh[name] for name in (f"w{last}", f"b{last}")}
    return train(stack, images, rng, EPOCHS, RATE)


def train(
    stack: Stack, images: Images, rng: np.random.Generator, epochs: int, rate: float, *, batch: int = BATCH
) -> dict[str, Tensor]:
    """Run SGD with momentum and a cosine schedule on cross-entropy; each model has its own batches.

    All models have the same images (n, PIXELS), or each has its own: (models, n, PIXELS).
    """
    weights = {name: value.clone().requires_grad_() for name, value in stack.items()}
    speed = {name: torch.zeros_like(value) for name, value in weights.items()}
    x, y = images
    size, model = y.shape[-1], torch.arange(len(weights["w0"]))[:, None]
    per_epoch = size // batch
    steps = epochs * per_epoch
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.from_numpy(rng.random((len(model), size), dtype=np.float32).argsort(1))
        rows = order[:, step % per_epoch * batch :][:, :batch]
        index = rows if y.dim() == 1 else (model, rows)
        logs = forward(weights, x[index]).log_softmax(-1)
        loss = -logs.gather(-1, y[index][..., None]).mean((1, 2)).sum()
        slopes = torch.autograd.grad(loss, list(weights.values()))
        scale = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        with torch.no_grad():
            for (name, value), slope in zip(weights.items(), slopes, strict=True):
                speed[name].mul_(MOMENTUM).add_(slope).add_(value, alpha=DECAY)
                value.sub_(speed[name], alpha=scale)
    return {name: value.detach() for name, value in weights.items()}


def _write_inputs(folder: Path, cases: list[Case]) -> None:
    """Write the files that a method is given."""
    _save(folder / "model.safetensors", [case.original for case in cases])
    _save(folder / "sets.safetensors", [_flat(case, "retain", "forget", "validation") for case in cases])


def _write_practice(folder: Path, cases: list[Case]) -> None:
    """Write confidences and accuracies of the practice worlds' retrained models, but not their weights."""
    _save(folder / "retrained.safetensors", [_outputs(case) for case in cases])


def _outputs(case: Case) -> dict[str, Tensor]:
    """What is published of the retrained models of a practice world."""
    outputs = {
        f"{name}_accuracy": (forward(case.retrained, x).argmax(-1) == y).float().mean(1)
        for name, (x, y) in case.sets.items()
        if name != "test"
    }
    x, y = case.sets["forget"]
    return outputs | {"forget_confidence": torch.from_numpy(confidence(forward(case.retrained, x), y))}


def _write_answers(folder: Path, cases: list[Case]) -> None:
    """Write what the scorer needs, and the bases, from which further retrained models can be made."""
    _save(folder / "retrained.safetensors", [case.retrained for case in cases])
    _save(folder / "base.safetensors", [case.base for case in cases])
    _save(folder / "judge.safetensors", [_flat(case, "retain", "forget", "test") for case in cases])


def _flat(case: Case, *names: str) -> dict[str, Tensor]:
    return {
        f"{name}_{part}": tensor for name in names for part, tensor in zip("xy", case.sets[name], strict=True)
    }


def _save(path: Path, worlds: Sequence[Stack]) -> None:
    """Write the tensors of all worlds, stacked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: torch.stack([world[name] for world in worlds]) for name in worlds[0]}, path)
