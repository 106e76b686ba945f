"""A copy of the generator's functions: worlds, images, base, original and retrained models."""

import itertools
import math

import numpy as np
import torch

from matching import log_odds
from model import Batches, cross_entropy, descend, finish, forward, repeat

FACTORS, PIXELS, WIDTH = 14, 64, 24
SHARES = (0.05, 0.16, 0.15, 0.13, 0.12, 0.10, 0.09, 0.08, 0.07, 0.05)
CURVATURE, OFFSET, JITTER, NOISE = 0.7, 0.05, 0.15, 0.1
LAYERS, BASE, BASE_BATCH, BASE_EPOCHS, BASE_RATE, MODELS = (64, 64, 64, 10), 8000, 128, 15, 0.08, 24


def make_world(rng):
    """Draw the age function and the look of people; set the age groups' boundaries by their shares."""
    inner = rng.normal(size=(FACTORS, WIDTH)) * CURVATURE / math.sqrt(FACTORS)
    shift, outer = rng.normal(size=WIDTH), rng.normal(size=WIDTH) / math.sqrt(WIDTH)
    view = rng.normal(size=(FACTORS, PIXELS)) * 1.5 / math.sqrt(FACTORS)
    light = 0.5 * rng.normal(size=PIXELS)
    ages = np.tanh(rng.normal(size=(20_000, FACTORS)) @ inner + shift) @ outer
    spread = float(ages.std())
    edges = np.quantile(ages + OFFSET * spread * rng.normal(size=len(ages)), np.cumsum(SHARES)[:-1])
    return inner, shift, outer, view, light, edges, spread


def make_images(world, people, rng):
    """Images of new people, and their age groups."""
    inner, shift, outer, view, light, edges, spread = world
    factors = rng.normal(size=(people, FACTORS))
    ages = np.tanh(factors @ inner + shift) @ outer + OFFSET * spread * rng.normal(size=people)
    views = factors + JITTER * rng.normal(size=(people, FACTORS))
    pixels = np.tanh(views @ view + light)
    pixels += NOISE * rng.normal(size=pixels.shape)
    return torch.from_numpy(pixels.astype(np.float32)), torch.from_numpy(np.digitize(ages, edges))


def make_case(rng):
    """The original, the sets, and the retrained models' mean confidences on the forget set."""
    world = make_world(rng)
    sizes = {"retain": 240, "forget": 120, "validation": 300}
    sets = {name: make_images(world, people, rng) for name, people in sizes.items()}
    batches = Batches(make_images(world, BASE, rng), 1, rng, BASE_BATCH)
    start = {}
    for layer, (before, after) in enumerate(itertools.pairwise(LAYERS)):
        weights = rng.normal(0, math.sqrt(2 / before), (1, before, after))
        start[f"w{layer}"] = torch.from_numpy(weights.astype(np.float32))
        start[f"b{layer}"] = torch.zeros(1, 1, after)

    def loss(stack):
        x, y = batches.next()
        return cross_entropy(forward(stack, x), y)

    base = descend(start, loss, BASE_EPOCHS * batches.per_epoch, BASE_RATE)
    both = tuple(torch.cat(pair) for pair in zip(sets["retain"], sets["forget"], strict=True))
    original = finish(base, both, rng)
    retrained = finish(repeat(base, MODELS), sets["retain"], rng)
    x, y = sets["forget"]
    with torch.no_grad():
        return original, sets, log_odds(forward(retrained, x), y).mean(0)
