"""Budgets: what an episode may spend, what is left of it, and why it ended.

Steps and seconds end an episode when they run out; evaluations only stop being available.
Seconds are wall time since the reset, the agent's thinking included, as in the paper.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mlrcbench.errors import CardError, nearest

# Time left is told in hundredths of the budget, rounded up: enough to plan with, and the
# same text in two runs of the same actions.
_GRAINS = 100


@dataclass(frozen=True, slots=True)
class Budget:
    """What one episode may spend.

    Attributes:
        steps: Actions, well-formed or not.
        seconds: Wall time since the reset.
        evaluations: Evaluations on dev.
    """

    steps: int
    seconds: float
    evaluations: int

    def __post_init__(self) -> None:
        if not (self.steps >= 1 and self.seconds > 0 and self.evaluations >= 0):
            raise CardError(f"a budget needs steps >= 1, seconds > 0 and evaluations >= 0, not {self}")

    def override(self, changes: Budget | Mapping[str, float] | None) -> Budget:
        """This budget with some of its parts replaced.

        Args:
            changes: A whole budget, parts of one by name, or nothing.

        Raises:
            CardError: A name or a value is no part of a budget.
        """
        if isinstance(changes, Budget):
            return changes
        known = {"steps": int, "seconds": float, "evaluations": int}
        for name, value in (changes or {}).items():
            if name not in known:
                raise CardError(f"a budget has no {name!r}. {nearest(name, known)}")
            if isinstance(value, bool) or not isinstance(value, int | float) or value != known[name](value):
                raise CardError(f"a budget's {name} must be a number, not {value!r}")
        return dataclasses.replace(
            self, **{name: known[name](value) for name, value in (changes or {}).items()}
        )


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a budget; seconds are rounded up to a hundredth of the budget."""

    steps: int
    seconds: float
    evaluations: int


class Meter:
    """Counts what an episode spends."""

    def __init__(self, budget: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        self.budget = budget
        self.steps = 0
        self.evaluations = 0
        self._clock = clock
        self._started = clock()

    def go_back_to(self, steps: int, evaluations: int, seconds: float) -> None:
        """Count on from what had been spent at another time."""
        self.steps, self.evaluations = steps, evaluations
        self._started = self._clock() - seconds

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
        """What is left, as the agent is told."""
        grain = self.budget.seconds / _GRAINS
        return Left(
            steps=max(0, self.budget.steps - self.steps),
            seconds=round(math.ceil(self.seconds_left / grain) * grain, 3),
            evaluations=max(0, self.budget.evaluations - self.evaluations),
        )

    @property
    def spent(self) -> str | None:
        """Which part ended the episode: "steps", "seconds", or None while it goes on."""
        if self.steps >= self.budget.steps:
            return "steps"
        return "seconds" if self.seconds_left <= 0 else None
