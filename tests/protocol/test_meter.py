"""The meter of a budget, and budgets with some parts replaced."""

from __future__ import annotations

import pytest

from mlrcbench.catalog.limits import Budget
from mlrcbench.errors import CardError
from mlrcbench.protocol.meter import Left, Meter


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_meter_says_what_is_left_and_why_the_episode_ended() -> None:
    """Steps and seconds end an episode; seconds left are hundredths of the budget, rounded up."""
    clock = _Clock()
    meter = Meter(Budget(steps=2, seconds=1000.0, evaluations=1), clock)
    assert meter.left == Left(2, 1000.0, 1)
    clock.now += 0.4
    assert meter.left.seconds == 1000.0
    clock.now += 10.0
    assert meter.left.seconds == 990.0
    meter.spending.evaluations += 1
    assert (meter.left.evaluations, meter.spent) == (0, None)
    meter.spending.steps += 2
    assert meter.spent == "steps"
    meter.spending.steps = 1
    clock.now += 1000.0
    assert (meter.spent, meter.seconds_left) == ("seconds", 0.0)


def test_a_budget_is_overridden_in_parts() -> None:
    """The parts are given by name; anything else is refused."""
    budget = Budget(5, 60.0, 2)
    assert budget.override({"steps": 7}) == Budget(7, 60.0, 2)
    assert budget.override(None) == budget
    assert budget.override(Budget(1, 1.0, 0)) == Budget(1, 1.0, 0)
    for wrong in ({"step": 7}, {"steps": 7.5}, {"steps": True}, {"steps": 0}):
        with pytest.raises(CardError):
            budget.override(wrong)
