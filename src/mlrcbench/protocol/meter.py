"""The meter: what an episode has spent of its budget, what is left, and why it ended.

Steps and seconds end an episode when they run out; evaluations only stop being available.
Seconds are wall time since the reset, the agent's thinking included, as in the paper.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mlrcbench.catalog.limits import Budget

# The time left is reported in hundredths of the budget, rounded up: precise enough to plan with,
# and the same text in two runs of the same actions.
_GRAINS = 100


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a budget; seconds are rounded up to a hundredth of the budget."""

    steps: int
    seconds: float
    evaluations: int


class Spending(Protocol):
    """What an episode has spent. `EpisodeState` has these attributes among others."""

    steps: int
    evaluations: int
    seconds: float


@dataclass(slots=True)
class Spent:
    """Counts of what has been spent, for a meter without an episode."""

    steps: int = 0
    evaluations: int = 0
    seconds: float = 0.0


class Meter:
    """Compares what an episode spends with its budget.

    Args:
        budget: What may be spent.
        clock: Returns seconds since any fixed moment.
        spending: The counts. Its seconds are those spent before now; the clock adds the rest.
    """

    def __init__(
        self,
        budget: Budget,
        clock: Callable[[], float] = time.monotonic,
        spending: Spending | None = None,
    ) -> None:
        self.budget = budget
        self.spending: Spending = spending if spending is not None else Spent()
        self._clock = clock
        self._started = clock() - self.spending.seconds

    @property
    def seconds(self) -> float:
        """Wall seconds since the start."""
        return self._clock() - self._started

    @property
    def seconds_left(self) -> float:
        """Exact seconds left, at least 0."""
        return max(0.0, self.budget.seconds - self.seconds)

    @property
    def left(self) -> Left:
        """What is left, as the agent reads it."""
        grain = self.budget.seconds / _GRAINS
        return Left(
            steps=max(0, self.budget.steps - self.spending.steps),
            seconds=round(math.ceil(self.seconds_left / grain) * grain, 3),
            evaluations=max(0, self.budget.evaluations - self.spending.evaluations),
        )

    @property
    def spent(self) -> str | None:
        """The part of the budget that is used up: "steps" or "seconds"; None while the episode runs."""
        if self.spending.steps >= self.budget.steps:
            return "steps"
        return "seconds" if self.seconds_left <= 0 else None
