"""A local oracle: the practice problems in data/, scored as in an evaluation."""

import json

import numpy as np

from space import Space

ROUNDS, BATCH = 10, 6


def score(optimizer_class, seed=0):
    """The mean score of an optimiser on the practice problems: 0 = one random point, 100 = the best known."""
    with open("data/practice.json") as file:
        problems = json.load(file)
    return float(np.mean([play(optimizer_class, problem, seed + n) for n, problem in enumerate(problems)]))


def play(optimizer_class, problem, seed):
    """The score of an optimiser on one problem."""
    space = Space(problem["space"])
    optimizer = optimizer_class(space, seed)
    best = problem["clip"]
    for _ in range(ROUNDS):
        points = optimizer.suggest(BATCH)
        losses = loss(problem, space, points)
        optimizer.observe(points, losses)
        best = min(best, losses.min())
    return 100 * (1 - max(-0.05, (best - problem["best"]) / (problem["clip"] - problem["best"])))


def loss(problem, space, points):
    """The losses of points, (n,), as the oracle computes them for problems of this kind."""
    unit = space.unit(points)
    u = unit[:, problem["numeric"]]
    centres, total = np.array(problem["centres"]) + np.zeros(u.shape), np.zeros(len(u))
    for number, shifts, penalties in zip(problem["categories"], problem["shifts"], problem["penalties"]):
        column = points[:, number].astype(int)
        centres = centres + np.array(shifts)[column]
        total = total + np.array(penalties)[column]
    t = u - centres
    left, right, amplitudes = (np.array(problem[name]) for name in ("left", "right", "amplitudes"))
    z = (t / np.where(t < 0, left, right)) ** 2
    shapes = np.array(problem["shapes"])
    valleys = np.where(shapes == 0, 1 - np.exp(-z / 2), np.log1p(z) / 2)
    total = total + (amplitudes * np.where(shapes == 2, np.exp(-u / right), valleys)).sum(axis=1)
    for first, second, slope, width, height in problem["ridges"]:
        total = total + height * (1 - np.exp(-((t[:, first] + slope * t[:, second]) ** 2) / (2 * width**2)))
    for direction, offset, softness, height in problem["cliffs"]:
        total = total + height / (
            1 + np.exp(-np.clip((t @ np.array(direction) - offset) / softness, -60, 60))
        )
    waves = np.array(problem["waves"])
    total = total + np.cos(u @ waves[:, :-2].T + waves[:, -2]) @ waves[:, -1]
    if problem["cases"]:
        return np.floor((1 - np.exp(-np.maximum(total + 0.1, 0.0))) * problem["cases"]) / problem["cases"]
    return problem["offset"] + problem["scale"] * np.expm1(problem["gamma"] * total)
