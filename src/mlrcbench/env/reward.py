"""Reward: relative improvement to human on test, paid at the end or spread over the episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlrcbench.errors import RegistryError, nearest
from mlrcbench.score import Score

Scheme = Literal["sparse", "shaped"]
SCHEMES: tuple[Scheme, ...] = ("sparse", "shaped")


@dataclass(frozen=True, slots=True)
class Reward:
    """How improvements become rewards; 1.0 is the target anchor.

    `sparse` pays the improvement on test at the end. `shaped` pays each rise of the best improvement
    on dev when it happens, and the rest at the end, so that both sum to the same return (a
    potential-based shaping, Ng, Harada and Russell 1999, with discount 1 and the best dev improvement
    so far, at least 0, as the potential).

    An invalid final submission counts as the baseline: 0, the value of doing nothing.

    Attributes:
        scheme: "sparse" or "shaped".
        clip: Lower and upper bound on every improvement, or None.
    """

    scheme: Scheme = "sparse"
    clip: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise RegistryError(f"unknown reward {self.scheme!r}. {nearest(self.scheme, SCHEMES)}")
        if self.clip is not None and not self.clip[0] <= 0.0 <= self.clip[1]:
            raise RegistryError(f"the bounds of a clip must include 0, the baseline; {self.clip} does not")

    def potential(self, best: float) -> float:
        """The potential of a state whose best improvement on dev is `best`."""
        return self._bounded(best) if self.scheme == "shaped" else 0.0

    def final(self, score: Score, best: float) -> float:
        """The reward at the end, given the score on test and the best improvement on dev."""
        earned = 0.0 if score.improvement is None else self._bounded(score.improvement)
        return earned - self.potential(best)

    def terms(self, before: float, after: float, final: Score | None) -> dict[str, float]:
        """The terms of a step's reward: for the rise of the best improvement on dev, and for the end.

        Args:
            before: The best improvement on dev before the step.
            after: The best improvement on dev after it.
            final: The score on test, if the step ended the episode.
        """
        rise = self.potential(after) - self.potential(before)
        return {"dev": rise, "test": 0.0 if final is None else self.final(final, after)}

    def _bounded(self, improvement: float) -> float:
        low, high = self.clip or (float("-inf"), float("inf"))
        return min(high, max(low, improvement))
