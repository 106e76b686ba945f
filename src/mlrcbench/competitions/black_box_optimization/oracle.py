"""Oracle: what a point of a search space is worth, and the rounds in which points are asked for.

A problem is a search space and a loss. Most losses are formulas with the traits of tuning landscapes: a few
parameters that matter, narrow valleys with plateaus around them, ridges, cliffs, categories that move the
optimum, ripples, and ties. The others are small models that are trained when they are asked about.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlrcbench.errors import SubmissionError, TooSlowError

if TYPE_CHECKING:
    from mlrcbench.artefacts.player import Player

ROUNDS = 12
BATCH = 6
MAX_PARAMETERS = 12
WORST = 1e6  # a loss that is not a number, or is larger

Floats = npt.NDArray[np.float64]
Problem = Mapping[str, Any]


def play(agent: Player, answers: Path) -> None:
    """Ask for points of all problems at once, and note what each of them is worth.

    An agent that is too slow is cut off: the rounds before count, as in the challenge.

    Raises:
        SubmissionError: A point lies outside of its space, or an answer has another type or shape.
    """
    problems = json.loads((answers / "problems.json").read_text("utf-8"))
    shape = (len(problems), BATCH, MAX_PARAMETERS)
    losses = np.zeros((len(problems), 0))
    for turn in range(ROUNDS):
        try:
            answer = agent.ask({"round": turn}, {"losses": losses[:, -BATCH:]})
        except TooSlowError:
            break
        points = answer.array("points", shape=shape, dtype="<f8")
        for number, problem in enumerate(problems):
            check_points(problem["space"], points[number], f"round {turn}, problem {number}")
        found = [loss(problem, points[number]) for number, problem in enumerate(problems)]
        losses = np.concatenate([losses, found], axis=1)
    agent.note({"rounds": losses.shape[1] // BATCH}, {"losses": losses})


def check_points(space: list[Mapping[str, Any]], points: Floats, where: str) -> None:
    """Raise if a point lies outside of its space.

    Raises:
        SubmissionError: It does; the text names the parameter.
    """
    for number, parameter in enumerate(space):
        column = points[:, number]
        low, high = bounds(parameter)
        whole = parameter["type"] != "real"
        if column.min() < low or column.max() > high or (whole and (column != np.round(column)).any()):
            kind = "a whole number" if whole else "a number"
            raise SubmissionError(
                f"{where}: parameter {number} ({parameter['name']}) must be {kind} from {low:g} to {high:g}"
            )


def bounds(parameter: Mapping[str, Any]) -> tuple[float, float]:
    """Smallest and largest value of a parameter; a category is the number of its value."""
    if parameter["type"] in ("cat", "bool"):
        return 0.0, parameter["count"] - 1.0
    return parameter["low"], parameter["high"]


def unit(space: list[Mapping[str, Any]], points: Floats) -> Floats:
    """Points in warped coordinates from 0 to 1; categories stay numbers of their values, (n, d)."""
    columns = []
    for number, parameter in enumerate(space):
        column = points[:, number]
        if parameter["type"] in ("real", "int"):
            low, high, column = (
                warp(parameter["space"], value) for value in (parameter["low"], parameter["high"], column)
            )
            column = np.clip((column - low) / (high - low), 0.0, 1.0)
        columns.append(column)
    return np.stack(columns, axis=1)


def warp(name: str, value: Any) -> Any:
    """A value on the scale of its space: "linear", "log" or "logit"."""
    if name == "log":
        return np.log(value)
    return np.log(value) - np.log1p(-np.asarray(value)) if name == "logit" else np.asarray(value, dtype=float)


def loss(problem: Problem, points: Floats) -> Floats:
    """The loss of each point, (n,), of which smaller ones are better."""
    space = problem["space"]
    with np.errstate(all="ignore"):  # a diverging network is a bad point, not a fault
        if problem["kind"] == "formula":
            values = formula(problem, unit(space, points))
        else:
            model, table = MODELS[problem["kind"]], Table(problem["table"])
            values = np.array([model(table, dict(zip(problem["roles"], point))) for point in points])
    return np.where(np.isfinite(values), np.minimum(values, WORST), WORST)


def formula(problem: Problem, coordinates: Floats) -> Floats:
    """A loss with the traits of tuning landscapes, (n,), from warped coordinates, (n, d)."""
    categories = coordinates[:, problem["categories"]].astype(int)
    u = coordinates[:, problem["numeric"]]
    centres = np.array(problem["centres"]) + np.zeros(u.shape)
    total = np.zeros(len(u))
    for column, shifts, penalties in zip(categories.T, problem["shifts"], problem["penalties"], strict=True):
        centres = centres + np.array(shifts)[column]
        total = total + np.array(penalties)[column]
    t = u - centres
    left, right, amplitudes = (np.array(problem[name]) for name in ("left", "right", "amplitudes"))
    z = (t / np.where(t < 0, left, right)) ** 2
    shapes = np.array(problem["shapes"])  # 0: a valley in a plateau, 1: a valley in a funnel, 2: a gain
    valleys = np.where(shapes == 0, 1 - np.exp(-z / 2), np.log1p(z) / 2)
    total = total + (amplitudes * np.where(shapes == 2, np.exp(-u / right), valleys)).sum(axis=1)
    for first, second, slope, width, height in problem["ridges"]:
        total = total + height * (1 - np.exp(-((t[:, first] + slope * t[:, second]) ** 2) / (2 * width**2)))
    for direction, offset, softness, height in problem["cliffs"]:
        total = total + height / (1 + np.exp(-np.clip((t @ np.array(direction) - offset) / softness, -60, 60)))
    waves = np.array(problem["waves"])
    total = total + np.cos(u @ waves[:, :-2].T + waves[:, -2]) @ waves[:, -1]
    if problem["cases"]:  # an error rate on so many cases, with ties
        return np.floor((1 - np.exp(-np.maximum(total + 0.1, 0.0))) * problem["cases"]) / problem["cases"]
    return problem["offset"] + problem["scale"] * np.expm1(problem["gamma"] * total)


class Table:
    """A model's data: training rows first, then validation rows."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        rows, targets = np.array(table["rows"]), np.array(table["targets"])
        split = table["training"]
        self.classes = bool(table["classes"])
        self.rows, self.checked = rows[:split], rows[split:]
        self.targets, self.truth = targets[:split], targets[split:]

    def scaled(self, power: float, centred: bool) -> tuple[Floats, Floats]:
        """Both parts, with features divided by a power of their spread."""
        middle = self.rows.mean(axis=0) if centred else 0.0
        spread = self.rows.std(axis=0) ** power
        return (self.rows - middle) / spread, (self.checked - middle) / spread

    def judge(self, predicted: Floats) -> float:
        """The validation loss of predictions: log loss of classes -1 and 1, or mean squared error."""
        if self.classes:
            return float(np.logaddexp(0.0, -2.0 * self.truth * predicted).mean())
        return float(((predicted - self.truth) ** 2).mean())


def kernel_ridge(table: Table, p: Mapping[str, float]) -> float:
    """Kernel ridge regression."""
    rows, checked = table.scaled(p["power"], p["centred"] > 0)

    def kernel(a: Floats, b: Floats) -> Floats:
        squares = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0.0) / p["length"] ** 2
        if p["kernel"] == 0:
            return np.exp(-squares / 2)
        return np.exp(-np.sqrt(squares)) if p["kernel"] == 1 else 1 / (1 + squares)

    return table.judge(kernel(checked, rows) @ _ridge(kernel(rows, rows), table.targets, p["ridge"]))


def neighbours(table: Table, p: Mapping[str, float]) -> float:
    """Weighted nearest neighbours."""
    rows, checked = table.scaled(p["power"], centred=False)
    gaps = np.abs(checked[:, None] - rows[None]) ** p["minkowski"]
    distances = gaps.sum(axis=2) ** (1 / p["minkowski"])
    nearest = np.argsort(distances, axis=1)[:, : int(p["count"])]
    near = np.take_along_axis(distances, nearest, axis=1)
    if p["weighting"] == 0:
        weights = np.ones_like(near)
    elif p["weighting"] == 1:
        weights = 1 / (near + 1e-6)
    else:
        weights = np.exp(-((near / (near[:, -1:] + 1e-9)) ** 2) * 2)
    return table.judge((weights * table.targets[nearest]).sum(axis=1) / weights.sum(axis=1))


def random_features(table: Table, p: Mapping[str, float]) -> float:
    """Ridge regression on random features beside the linear ones."""
    rows, checked = table.scaled(1.0, centred=True)
    random = np.random.default_rng(7)
    weights = random.normal(size=(rows.shape[1], 64))[:, : int(p["count"])] / p["length"]
    phases = random.uniform(0, 2 * np.pi, 64)[: int(p["count"])]

    def features(part: Floats) -> Floats:
        inner = part @ weights + phases
        return np.concatenate(
            [np.cos(inner) if p["function"] == 0 else np.tanh(inner), p["linear"] * part], axis=1
        )

    known = features(rows)
    solution = _ridge(known.T @ known, known.T @ table.targets, p["ridge"] * len(rows))
    return table.judge((1 - p["shrinkage"]) * (features(checked) @ solution))


def network(table: Table, p: Mapping[str, float]) -> float:
    """One hidden layer, by stochastic gradient descent with momentum."""
    rows, checked = table.scaled(1.0, centred=True)
    random = np.random.default_rng(11)
    width = int(p["width"])
    first = random.normal(size=(rows.shape[1] + 1, width)) * p["initial"]
    second = random.normal(size=width) * p["initial"] / np.sqrt(width)
    speeds = [np.zeros_like(first), np.zeros_like(second)]
    rows, checked = (np.concatenate([part, np.ones((len(part), 1))], axis=1) for part in (rows, checked))
    for _ in range(int(p["epochs"])):
        for start in range(0, len(rows), 10):
            part, target = rows[start : start + 10], table.targets[start : start + 10]
            hidden = _activate(part @ first, p["activation"])
            error = np.clip(hidden @ second - target, -1e3, 1e3) / len(part)
            slope = (hidden > 0) if p["activation"] == 0 else 1 - hidden**2
            steps = (part.T @ (error[:, None] * second * slope), hidden.T @ error)
            for speed, step, weights in zip(speeds, steps, (first, second), strict=True):
                speed *= p["momentum"]
                speed -= p["rate"] * (step + p["decay"] * weights)
                weights += speed
    return table.judge(_activate(checked @ first, p["activation"]) @ second)


def _activate(values: Floats, kind: float) -> Floats:
    return np.maximum(values, 0.0) if kind == 0 else np.tanh(values)


def _ridge(matrix: Floats, targets: Floats, ridge: float) -> Floats:
    solution: Floats = np.linalg.solve(matrix + ridge * np.eye(len(matrix)), targets)
    return solution


MODELS: Mapping[str, Callable[[Table, Mapping[str, float]], float]] = {
    "kernel ridge": kernel_ridge,
    "neighbours": neighbours,
    "random features": random_features,
    "network": network,
}
