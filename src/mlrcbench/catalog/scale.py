"""Arithmetic over scores. The only module that knows which direction is better."""

from __future__ import annotations

import math

from mlrcbench.catalog.card import Anchors, Direction, Metric


def improvement(value: float, anchors: Anchors) -> float:
    """Relative improvement to human: the share of the gap between the anchors that is closed.

    `(value - baseline) / (target - baseline)`, so 0 is the baseline and 1 the top human entry,
    unbounded both ways; the same formula holds for either direction. Source: MLRC-Bench
    (arXiv 2504.09702), section 3, there in percent.

    Args:
        value: A score, in the metric's unit.
        anchors: The anchors, in the same unit.
    """
    baseline = anchors.baseline.value
    return (value - baseline) / (anchors.target.value - baseline)


def improvement_error(error: float | None, anchors: Anchors) -> float | None:
    """Standard error of an improvement, in its units; None if that of the score is not known.

    `sqrt(error^2 + between^2) / |target - baseline|`, with the baseline's `between` of the card: the draw of
    items and that of instances and seeds are independent.

    Args:
        error: Standard error of the score, in the metric's unit.
        anchors: The anchors, in the same unit.
    """
    if error is None:
        return None
    width = abs(anchors.target.value - anchors.baseline.value)
    return math.hypot(error, anchors.baseline.between) / width


def largest_improvement(metric: Metric, anchors: Anchors) -> float:
    """The relative improvement of a perfect score."""
    return improvement(metric.upper if metric.direction == "maximize" else metric.lower, anchors)


def better(left: float, right: float, direction: Direction) -> bool:
    """Whether `left` is strictly better than `right`."""
    return left > right if direction == "maximize" else left < right
