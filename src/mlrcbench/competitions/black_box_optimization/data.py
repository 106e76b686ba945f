"""Generator: 60 problems a split, of which 36 are formulas and 24 are small models on tables.

Each problem's search space has parameters in random order, whose names say nothing. The scale of a problem is
made here: `clip`, the median loss of random points, and `best`, the smallest loss that a long search has
found. Problems that random search finds too easy or too hard are drawn again, and so are those in which its
loss is a matter of luck.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlrcbench.competitions.black_box_optimization.oracle import (
    BATCH,
    ROUNDS,
    Scales,
    losses_of,
)

FORMULAS, MODELS, PRACTICE = 36, 24, 12
TRIALS = ROUNDS * BATCH
_EASIEST, _HARDEST = 0.2, 0.4  # what random search leaves of the way from `clip` to `best`
_HALFWAY, _HOPELESS = 0.05, 0.12  # a step of the long search from which so little left is too little
_LUCK = 0.1  # the standard deviation of that
_ROLES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "kernel ridge": [
        ("length", {"type": "real", "space": "log", "low": 0.05, "high": 50.0}),
        ("ridge", {"type": "real", "space": "log", "low": 1e-6, "high": 10.0}),
        ("kernel", {"type": "cat", "count": 3}),
        ("power", {"type": "real", "space": "linear", "low": 0.0, "high": 1.5}),
        ("centred", {"type": "bool", "count": 2}),
    ],
    "neighbours": [
        ("count", {"type": "int", "space": "log", "low": 1, "high": 40}),
        ("minkowski", {"type": "real", "space": "log", "low": 0.3, "high": 8.0}),
        ("power", {"type": "real", "space": "linear", "low": 0.0, "high": 2.0}),
        ("weighting", {"type": "cat", "count": 3}),
    ],
    "random features": [
        ("length", {"type": "real", "space": "log", "low": 0.1, "high": 100.0}),
        ("count", {"type": "int", "space": "log", "low": 2, "high": 64}),
        ("ridge", {"type": "real", "space": "log", "low": 1e-8, "high": 100.0}),
        ("function", {"type": "bool", "count": 2}),
        ("linear", {"type": "real", "space": "log", "low": 1e-3, "high": 10.0}),
        ("shrinkage", {"type": "real", "space": "logit", "low": 0.001, "high": 0.9}),
    ],
    "network": [
        ("rate", {"type": "real", "space": "log", "low": 1e-4, "high": 1.0}),
        ("decay", {"type": "real", "space": "log", "low": 1e-6, "high": 1.0}),
        ("width", {"type": "int", "space": "log", "low": 2, "high": 32}),
        ("momentum", {"type": "real", "space": "logit", "low": 0.01, "high": 0.99}),
        ("epochs", {"type": "int", "space": "linear", "low": 1, "high": 10}),
        ("activation", {"type": "bool", "count": 2}),
        ("initial", {"type": "real", "space": "log", "low": 0.01, "high": 10.0}),
    ],
}
_PARENTS = 4  # points from which the long search continues
_PLAIN = ("real", "int", "cat", "bool")


def build(public: Path, private: Path, *, seed: int, tier: str) -> None:  # noqa: ARG001 (always the same)
    """Write an instance.

    Args:
        public: Receives `practice.json`, 12 whole problems of the formulas' kind.
        private: Receives for each split `inputs/spaces.json`, the search space of each problem, and
            `answers/problems.json`, the problems.
        seed: Number derived from the secret; decides every byte.
        tier: Always "mini", the only tier that is built.
    """
    practice = [make_problem([seed, 0, number], "formula") for number in range(PRACTICE)]
    _write(public / "practice.json", practice)
    for stream, split in enumerate(("dev", "test"), 1):
        kinds = ["formula"] * FORMULAS + list(itertools.islice(itertools.cycle(_ROLES), MODELS))
        problems = [make_problem([seed, stream, number], kind) for number, kind in enumerate(kinds)]
        order = np.random.default_rng([seed, stream, len(problems)]).permutation(len(problems))
        problems = [problems[number] for number in order]
        _write(private / split / "inputs" / "spaces.json", [problem["space"] for problem in problems])
        _write(private / split / "answers" / "problems.json", problems)


def make_problem(key: list[int], kind: str) -> dict[str, Any]:
    """A problem that is neither trivial nor hopeless for random search."""
    for attempt in itertools.count():
        random = np.random.default_rng([*key, attempt])
        problem = _formula(random) if kind == "formula" else _model(random, kind)
        if _measure(problem, random):
            return problem
    raise AssertionError


def _measure(problem: dict[str, Any], random: np.random.Generator) -> bool:
    """Add `clip` and `best` to a problem; returns whether random search leaves as much as it should."""
    points, losses_at = Scales(problem["space"]).values, losses_of(problem)
    count, generations, width = (1000, 40, 48) if problem["kind"] == "formula" else (150, 12, 12)
    fractions = random.random((count, len(problem["space"])))
    losses = losses_at(points(fractions))
    problem["clip"] = clip = float(np.median(losses))
    chances, ranked = _chances(count), np.minimum(np.sort(losses), clip)
    expected = float(chances @ ranked)
    spread = float(np.sqrt(chances @ (ranked - expected) ** 2))
    if spread > _LUCK * (clip - expected) / (1 - _HARDEST):
        return False  # whatever `best` may be
    for step in np.geomspace(0.25, 0.003, generations):
        order = np.argsort(losses, kind="stable")[:_PARENTS]
        fractions, losses = fractions[order], losses[order]
        problem["best"] = best = float(losses[0])
        left = (expected - best) / max(clip - best, 1e-9)
        if left > _HARDEST:
            return False  # a better `best` cannot make it easier
        if step < _HALFWAY and left < _HOPELESS:
            return False  # it would hardly become hard enough
        children = fractions[random.integers(len(order), size=width)]
        moved = children + step * random.normal(size=children.shape)
        kept, drawn = random.random(children.shape), random.random(children.shape)
        children = np.where(kept < 0.5, children, np.where(kept < 0.95, moved, drawn))
        children = np.clip(children, 0.0, 1 - 1e-12)
        fractions = np.concatenate([fractions, children])
        losses = np.concatenate([losses, losses_at(points(children))])
    problem["best"] = best = float(losses.min())
    return _EASIEST < (expected - best) / (clip - best) < _HARDEST and spread < _LUCK * (clip - best)


def _chances(count: int) -> npt.NDArray[np.float64]:
    """For each of so many ranks, the best first, the chance that the best of `TRIALS` points has it."""
    chances: npt.NDArray[np.float64] = -np.diff((1 - np.arange(count + 1) / count) ** TRIALS)
    return chances


def _formula(random: np.random.Generator) -> dict[str, Any]:
    """A landscape; see `oracle.Landscape`."""
    count = int(random.integers(5, 13))
    space = [_parameter(random, f"p{number}") for number in range(count)]
    numeric = [number for number, one in enumerate(space) if one["type"] in ("real", "int")]
    categories = [number for number, one in enumerate(space) if one["type"] in ("cat", "bool")]
    if len(numeric) < 3:
        return _formula(random)
    numeric = sorted(random.permutation(numeric)[: int(random.integers(3, 7))].tolist())
    size = len(numeric)
    weights = random.dirichlet([1.2] * size) + 0.1
    centres = random.random(size)
    waves = [
        [*_wave(random, size), random.uniform(0, 2 * np.pi), _log_uniform(random, 0.005, 0.03)]
        for _ in range(24)
    ]
    rounded = bool(random.random() < 0.5)
    return {
        "kind": "formula",
        "space": space,
        "numeric": numeric,
        "categories": categories,
        "centres": centres.tolist(),
        "shifts": [_shifts(random, space[number]["count"], size) for number in categories],
        "penalties": [_penalties(random, space[number]["count"]) for number in categories],
        "left": [_log_uniform(random, 0.06, 0.5) for _ in numeric],
        "right": [_log_uniform(random, 0.06, 0.5) for _ in numeric],
        "amplitudes": weights.tolist(),
        "shapes": random.choice(3, size, p=[0.4, 0.4, 0.2]).tolist(),
        "ridges": [_ridge(random, size) for _ in range(random.integers(1, 4))],
        "cliffs": [_cliff(random, size) for _ in range(random.integers(0, 3))],
        "waves": waves,
        "cases": int(random.integers(60, 401)) if rounded else 0,
        "gamma": random.uniform(0.5, 2.5),
        "scale": _log_uniform(random, 0.1, 10.0),
        "offset": random.uniform(0.0, 5.0),
    }


def _parameter(random: np.random.Generator, name: str) -> dict[str, Any]:
    kind = _PLAIN[random.choice(4, p=[0.58, 0.24, 0.10, 0.08])]
    if kind == "cat":
        return {"name": name, "type": "cat", "count": int(random.integers(3, 6))}
    if kind == "bool":
        return {"name": name, "type": "bool", "count": 2}
    if kind == "int":
        high = int(np.exp(random.uniform(np.log(4), np.log(200))))
        scale = "log" if random.random() < 0.5 else "linear"
        return {"name": name, "type": "int", "space": scale, "low": 1, "high": high}
    scale = ("linear", "log", "logit")[random.choice(3, p=[0.35, 0.5, 0.15])]
    if scale == "log":
        low = 10.0 ** random.uniform(-7, -1)
        return {
            "name": name,
            "type": "real",
            "space": "log",
            "low": low,
            "high": low * 10 ** random.uniform(2, 6),
        }
    if scale == "logit":
        return {"name": name, "type": "real", "space": "logit", "low": 0.01, "high": 0.99}
    low = random.uniform(-2, 2)
    return {"name": name, "type": "real", "space": "linear", "low": low, "high": low + random.uniform(0.5, 5)}


def _wave(random: np.random.Generator, size: int) -> list[float]:
    direction = random.normal(size=size)
    wave: list[float] = (direction / np.linalg.norm(direction) * random.uniform(3, 14)).tolist()
    return wave


def _shifts(random: np.random.Generator, count: int, size: int) -> list[list[float]]:
    shifts: list[list[float]] = (0.12 * random.normal(size=(count, size))).tolist()
    return shifts


def _penalties(random: np.random.Generator, count: int) -> list[float]:
    penalties = random.exponential(0.15, count)
    penalties[random.integers(count)] = 0.0
    return list(map(float, penalties))


def _ridge(random: np.random.Generator, size: int) -> list[float]:
    first, second = random.permutation(size)[:2].tolist()
    slope = random.uniform(0.5, 1.5) * random.choice([-1, 1])
    return [first, second, float(slope), random.uniform(0.05, 0.25), random.uniform(0.1, 0.4)]


def _cliff(random: np.random.Generator, size: int) -> list[Any]:
    direction = random.normal(size=size)
    direction = direction / np.linalg.norm(direction)
    return [
        direction.tolist(),
        random.uniform(0.02, 0.25),
        _log_uniform(random, 0.01, 0.05),
        random.uniform(0.3, 0.8),
    ]


def _model(random: np.random.Generator, kind: str) -> dict[str, Any]:
    """A small model on a fresh table."""
    roles = [_ROLES[kind][number] for number in random.permutation(len(_ROLES[kind]))]
    space = [{"name": f"p{number}", **parameter} for number, (_, parameter) in enumerate(roles)]
    return {"kind": kind, "space": space, "roles": [role for role, _ in roles], "table": _table(random)}


def _table(random: np.random.Generator) -> dict[str, Any]:
    """Rows with rotated features of uneven scale; the target is a sum of waves, with noise."""
    count, size = 120, int(random.integers(3, 8))
    rotation = np.linalg.qr(random.normal(size=(size, size)))[0]
    inner = random.normal(size=(count, size))
    targets = sum(
        np.sin(inner @ (random.normal(size=size) * random.uniform(0.3, 1.2)) + random.uniform(0, 6))
        for _ in range(6)
    )
    targets = targets / np.std(targets) + random.uniform(0.05, 0.5) * random.normal(size=count)
    classes = bool(random.random() < 0.5)
    if classes:
        targets = np.where(targets > np.median(targets), 1.0, -1.0)
    rows = (inner * random.uniform(0.2, 5.0, size)) @ rotation * 10 ** random.uniform(-1, 1, size)
    return {"rows": rows.tolist(), "targets": targets.tolist(), "training": 70, "classes": classes}


def _log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), "utf-8")
