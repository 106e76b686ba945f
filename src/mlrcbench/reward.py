"""Reward: relative improvement to human on test, once at the end or spread over the way."""

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

    `sparse` pays the improvement on test at the end. `shaped` pays each rise of the best
    improvement on dev when it happens, and at the end the rest, so that both sum to the same
    return (a potential-based shaping, Ng, Harada and Russell 1999, with discount 1 and the
    best dev improvement so far, at least 0, as the potential).

    An invalid final submission counts as the baseline: 0, the value of doing nothing.

    Attributes:
        scheme: "sparse" or "shaped".
        clip: Lower and upper bound on every improvement, or None.
    """

    scheme: Scheme = "sparse"
    clip: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise RegistryError(f"there is no reward {self.scheme!r}. {nearest(self.scheme, SCHEMES)}")
        if self.clip is not None and not self.clip[0] <= 0.0 <= self.clip[1]:
            raise RegistryError(f"a clip must hold 0, the baseline, between its bounds; {self.clip} does not")

    def potential(self, best: float) -> float:
        """What the best improvement on dev so far is worth."""
        return self._bounded(best) if self.scheme == "shaped" else 0.0

    def final(self, score: Score, best: float) -> float:
        """What the end pays, given the judgement on test and the best improvement on dev."""
        earned = 0.0 if score.improvement is None else self._bounded(score.improvement)
        return earned - self.potential(best)

    def _bounded(self, improvement: float) -> float:
        low, high = self.clip or (float("-inf"), float("inf"))
        return min(high, max(low, improvement))
