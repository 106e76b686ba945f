"""Relative improvement and the direction of a metric, compared with values worked out by hand."""

from __future__ import annotations

import pytest

from mlrcbench.catalog.card import Anchor, Anchors
from mlrcbench.catalog.scale import better, improvement, improvement_error

HIGHER = Anchors(Anchor(20.0, 0.0, ""), Anchor(80.0, 0.0, ""), "human")
LOWER = Anchors(Anchor(4.0, 0.0, ""), Anchor(1.0, 0.0, ""), "human")


@pytest.mark.parametrize(
    ("value", "anchors", "expected"),
    [
        (20.0, HIGHER, 0.0),
        (80.0, HIGHER, 1.0),
        (35.0, HIGHER, 0.25),
        (-40.0, HIGHER, -1.0),
        (4.0, LOWER, 0.0),
        (1.0, LOWER, 1.0),
        (7.0, LOWER, -1.0),
        (-0.5, LOWER, 1.5),
    ],
)
def test_improvement_is_the_closed_part_of_the_gap(value: float, anchors: Anchors, expected: float) -> None:
    """For either direction, 0 is the baseline and 1 the human entry."""
    assert improvement(value, anchors) == expected


def test_the_error_is_on_the_scale_of_improvements() -> None:
    """It is never negative, contains what lies between instances, and is not invented."""
    assert improvement_error(6.0, HIGHER) == pytest.approx(0.1)
    assert improvement_error(0.3, LOWER) == pytest.approx(0.1)
    between = Anchors(Anchor(20.0, 9.0, "", between=8.0), Anchor(80.0, 0.0, "", between=99.0), "human")
    assert improvement_error(6.0, between) == pytest.approx(10 / 60)
    assert improvement_error(None, between) is None


def test_better_knows_the_direction() -> None:
    """An equal value is not better."""
    assert better(2.0, 1.0, "maximize")
    assert better(1.0, 2.0, "minimize")
    assert not better(1.0, 1.0, "maximize")
