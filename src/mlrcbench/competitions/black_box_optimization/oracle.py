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

ROUNDS = 10
BATCH = 6
MAX_PARAMETERS = 12
WORST = 1e6  # a loss that is not a number, or is larger
_WIDEST, _ROWS = 32, 14  # units of the largest network; rows of a step

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
        tried = [rows[:, : len(problem["space"])] for problem, rows in zip(problems, points, strict=True)]
        for number, (problem, rows) in enumerate(zip(problems, tried, strict=True)):
            check_points(problem["space"], rows, f"round {turn}, problem {number}")
        latest = [loss(problem, rows) for problem, rows in zip(problems, tried, strict=True)]
        losses = np.concatenate([losses, latest], axis=1)
    agent.note({"rounds": losses.shape[1] // BATCH}, {"losses": losses})


def check_points(space: list[Mapping[str, Any]], points: Floats, where: str) -> None:
    """Raise if a point lies outside of its space.

    Raises:
        SubmissionError: It does; the text names the parameter.
    """
    scales = Scales(space)
    for number, parameter in enumerate(space):
        column = points[:, number]
        low, high = scales.low[number], scales.high[number]
        whole = parameter["type"] != "real"
        if column.min() < low or column.max() > high or (whole and (column != np.round(column)).any()):
            kind = "a whole number" if whole else "a number"
            raise SubmissionError(
                f"{where}: parameter {number} ({parameter['name']}) must be {kind} from {low:g} to {high:g}"
            )


class Scales:
    """The scales of a search space's parameters, on which it is uniform: linear, logarithmic or logit.

    Args:
        space: The parameters, as in `inputs/spaces.json`.
    """

    def __init__(self, space: list[Mapping[str, Any]]) -> None:
        categories = [parameter["type"] in ("cat", "bool") for parameter in space]
        scales = np.array([parameter.get("space", "linear") for parameter in space])
        self.low = np.array([float(parameter.get("low", 0)) for parameter in space])
        self.high = np.array(
            [float(parameter.get("high", parameter.get("count", 0) - 1)) for parameter in space]
        )
        self.whole = np.array([parameter["type"] != "real" for parameter in space])
        self.categories = np.array(categories)
        self.log, self.logit = np.flatnonzero(scales == "log"), np.flatnonzero(scales == "logit")
        self.start, self.end = self._warp(np.stack([self.low, self.high]))
        self.end = np.where(self.categories, self.high + 1, self.end)

    def values(self, fractions: Floats) -> Floats:
        """Points of the space, (n, d), at fractions from 0 to 1 of each parameter's scale, (n, d)."""
        inner = self.start + (self.end - self.start) * fractions
        inner[:, self.log] = np.exp(inner[:, self.log])
        inner[:, self.logit] = 1 / (1 + np.exp(-inner[:, self.logit]))
        inner = np.where(self.categories, np.floor(inner), np.where(self.whole, np.round(inner), inner))
        return np.clip(inner, self.low, self.high)  # type: ignore[no-any-return] # numpy's stub

    def unit(self, points: Floats) -> Floats:
        """Fractions of the parameters' scales, (n, d), at points; categories stay numbers of their values."""
        inner = (self._warp(points) - self.start) / (self.end - self.start)
        return np.where(self.categories, points, np.clip(inner, 0.0, 1.0))

    def _warp(self, points: Floats) -> Floats:
        inner = points.copy()
        inner[:, self.log] = np.log(inner[:, self.log])
        inner[:, self.logit] = np.log(inner[:, self.logit] / (1 - inner[:, self.logit]))
        return inner


def loss(problem: Problem, points: Floats) -> Floats:
    """The loss of each point, (n,), of which smaller ones are better."""
    return losses_of(problem)(points)


def losses_of(problem: Problem) -> Callable[[Floats], Floats]:
    """A function from points, (n, d), to their losses, (n,)."""
    if problem["kind"] == "formula":
        values: Callable[[Floats], Floats] = Landscape(problem)
    else:
        model, table = MODELS[problem["kind"]], Table(problem["table"])

        def values(points: Floats) -> Floats:
            return model(table, dict(zip(problem["roles"], points.T, strict=True)))

    def capped(points: Floats) -> Floats:
        with np.errstate(all="ignore"):  # a diverging network is a bad point, not a fault
            losses = values(points)
        return np.where(np.isfinite(losses), np.minimum(losses, WORST), WORST)

    return capped


class Landscape:
    """A loss with the traits of tuning landscapes.

    Args:
        problem: A problem of the kind "formula"; `data.py` says what its entries are.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.scales = Scales(problem["space"])
        names = ("centres", "left", "right", "amplitudes", "shapes", "waves")
        self.centres, self.left, self.right, self.amplitudes, self.shapes, self.waves = (
            np.array(problem[name]) for name in names
        )
        self.moves = [np.array(shifts) for shifts in problem["shifts"]]
        self.penalties = [np.array(penalties) for penalties in problem["penalties"]]

    def __call__(self, points: Floats) -> Floats:
        """The losses, (n,), of points, (n, d)."""
        coordinates = self.scales.unit(points)
        total = self._total(
            coordinates[:, self.problem["categories"]].astype(int), coordinates[:, self.problem["numeric"]]
        )
        if cases := self.problem["cases"]:  # an error rate on so many cases, with ties
            return np.floor((1 - np.exp(-np.maximum(total + 0.1, 0.0))) * cases) / cases  # type: ignore[no-any-return] # numpy's stub
        losses: Floats = self.problem["offset"] + self.problem["scale"] * np.expm1(
            self.problem["gamma"] * total
        )
        return losses

    def _total(self, categories: npt.NDArray[np.int_], u: Floats) -> Floats:
        """The height of the landscape, (n,), at categories, (n, c), and important coordinates, (n, k)."""
        centres, total = self.centres + np.zeros(u.shape), np.zeros(len(u))
        for column, moves, penalties in zip(categories.T, self.moves, self.penalties, strict=True):
            centres += moves[column]
            total += penalties[column]
        t = u - centres
        z = (t / np.where(t < 0, self.left, self.right)) ** 2
        # Shapes: 0 is a valley in a plateau, 1 a valley in a funnel, 2 a gain.
        valleys = np.where(self.shapes == 0, 1 - np.exp(-z / 2), np.log1p(z) / 2)
        total += np.where(self.shapes == 2, np.exp(-u / self.right), valleys) @ self.amplitudes
        for first, second, slope, width, height in self.problem["ridges"]:
            across = t[:, first] + slope * t[:, second]
            total += height * (1 - np.exp(-(across**2) / (2 * width**2)))
        for direction, offset, softness, height in self.problem["cliffs"]:
            beyond = (t @ np.array(direction) - offset) / softness
            total += height / (1 + np.exp(-np.clip(beyond, -60, 60)))
        ripples: Floats = np.cos(u @ self.waves[:, :-2].T + self.waves[:, -2]) @ self.waves[:, -1]
        return total + ripples


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
            return np.exp(-squares / 2)  # type: ignore[no-any-return] # numpy's stub
        return np.exp(-np.sqrt(squares)) if p["kernel"] == 1 else 1 / (1 + squares)  # type: ignore[no-any-return] # numpy's stub

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


def network(table: Table, p: Mapping[str, Floats]) -> Floats:
    """One hidden layer, by stochastic gradient descent with momentum, for all points at once."""
    rows, checked = (
        np.pad(part, ((0, 0), (0, 1)), constant_values=1.0) for part in table.scaled(1.0, centred=True)
    )
    random = np.random.default_rng(11)
    rate, decay, momentum, initial, width, tanh = (
        p[name][:, None] for name in ("rate", "decay", "momentum", "initial", "width", "activation")
    )
    first = random.normal(size=(rows.shape[1], _WIDEST)) * initial[:, :, None]
    second = random.normal(size=_WIDEST) * initial / np.sqrt(width) * (np.arange(_WIDEST) < width)
    speeds = [np.zeros_like(first), np.zeros_like(second)]
    for epoch in range(int(p["epochs"].max())):
        going = (epoch < p["epochs"])[:, None]
        for start in range(0, len(rows), _ROWS):
            part, target = rows[start : start + _ROWS], table.targets[start : start + _ROWS]
            hidden = _activate(part @ first, tanh[:, :, None])
            error = np.clip((hidden @ second[:, :, None])[:, :, 0] - target, -1e3, 1e3) / len(part)
            slope = np.where(tanh[:, :, None] > 0, 1 - hidden**2, hidden > 0)
            back = part.T @ (error[:, :, None] * second[:, None] * slope)
            speeds[0] = momentum[:, :, None] * speeds[0] - rate[:, :, None] * (
                back + decay[:, :, None] * first
            )
            speeds[1] = momentum * speeds[1] - rate * ((error[:, None] @ hidden)[:, 0] + decay * second)
            first, second = first + going[:, :, None] * speeds[0], second + going * speeds[1]
    outputs = (_activate(checked @ first, tanh[:, :, None]) @ second[:, :, None])[:, :, 0]
    return np.array([table.judge(predicted) for predicted in outputs])


def _each(
    judge: Callable[[Table, Mapping[str, float]], float],
) -> Callable[[Table, Mapping[str, Floats]], Floats]:
    """A model of one point at a time, for all points."""

    def judge_all(table: Table, p: Mapping[str, Floats]) -> Floats:
        points = zip(*p.values(), strict=True)
        return np.array([judge(table, dict(zip(p, point, strict=True))) for point in points])

    return judge_all


def _activate(values: Floats, tanh: Floats) -> Floats:
    return np.where(tanh > 0, np.tanh(values), np.maximum(values, 0.0))


def _ridge(matrix: Floats, targets: Floats, ridge: float) -> Floats:
    solution: Floats = np.linalg.solve(matrix + ridge * np.eye(len(matrix)), targets)  # type: ignore[assignment] # numpy's stub
    return solution


MODELS: Mapping[str, Callable[[Table, Mapping[str, Floats]], Floats]] = {
    "kernel ridge": _each(kernel_ridge),
    "neighbours": _each(neighbours),
    "random features": _each(random_features),
    "network": network,
}
