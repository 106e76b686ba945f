"""The meter at its edges: rounding, exact ends, and time that was spent elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from mlrcbench.catalog.limits import Budget
from mlrcbench.protocol.meter import Left, Meter, Spent


class _Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def _meter(seconds: float = 1000.0, spent: float = 0.0) -> Meter:
    clock = _Clock()
    meter = Meter(Budget(steps=3, seconds=seconds, evaluations=2), clock)
    clock.now += spent
    return meter


def test_a_fresh_meter_has_spent_nothing() -> None:
    """The whole budget is left."""
    meter = _meter()
    assert (meter.spending.steps, meter.spending.evaluations, meter.seconds) == (0, 0, 0.0)
    assert meter.left == Left(3, 1000.0, 2)
    assert meter.spent is None


def test_seconds_left_are_rounded_up() -> None:
    """The nearest hundredth of the budget would be 980, less than what is left."""
    assert _meter(spent=16.0).left.seconds == 990.0


@pytest.mark.parametrize(
    ("spent", "expected"),
    [(0.0, 1000.0), (10.0, 990.0), (10.5, 990.0), (999.5, 10.0), (1000.0, 0.0), (2000.0, 0.0)],
)
def test_seconds_left_at_the_edges_of_a_hundredth(spent: float, expected: float) -> None:
    """A whole hundredth stays; a part of one counts as one; nothing is left at the end, and never less."""
    assert _meter(spent=spent).left.seconds == expected


@given(st.integers(1, 100_000), st.floats(0, 1))
def test_an_agent_never_reads_less_time_than_there_is(seconds: int, share: float) -> None:
    """And at most a hundredth of the budget more."""
    meter = _meter(seconds, share * seconds)
    exact, rounded = meter.seconds_left, meter.left.seconds
    event("rounded" if rounded - exact > 1e-3 else "exact")
    assert exact - 1e-3 <= rounded <= exact + seconds / 100 + 1e-3


def test_seconds_left_are_told_to_a_millisecond() -> None:
    """A budget whose hundredth is a long fraction."""
    assert _meter(seconds=1.0 / 3.0).left.seconds == 0.333
    assert _meter(seconds=2.0 / 3.0).left.seconds == 0.667


def test_steps_end_an_episode_before_seconds_do() -> None:
    """Both have run out; the steps are named. A step less, and it is the seconds."""
    meter = _meter(spent=1000.0)
    meter.spending.steps = 3
    assert meter.spent == "steps"
    meter.spending.steps = 2
    assert meter.spent == "seconds"
    meter = _meter(spent=999.0)
    meter.spending.steps = 2
    assert meter.spent is None


def test_nothing_left_is_never_negative() -> None:
    """More was spent than the budget has, as when a command outlasts it."""
    meter = _meter(spent=5000.0)
    meter.spending.steps, meter.spending.evaluations = 5, 4
    assert meter.left == Left(0, 0.0, 0)
    assert meter.seconds_left == 0.0


def test_a_restored_meter_counts_from_what_was_spent() -> None:
    """Steps, evaluations and seconds of the snapshot, and the seconds that pass after it."""
    clock = _Clock()
    spent = Spent(steps=1, evaluations=2, seconds=300.0)
    meter = Meter(Budget(steps=3, seconds=1000.0, evaluations=2), clock, spent)
    assert meter.seconds == 300.0
    clock.now += 50.0
    assert meter.seconds == 350.0
    assert meter.left == Left(2, 650.0, 0)
