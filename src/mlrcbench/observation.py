"""Observation: what an agent is told, how it is worded, and how it is cut.

The body of an observation is a function of the instance and the actions alone, so that a
replay can compare it letter by letter. Whatever depends on the clock (time taken, time left)
stands in the status line and is coarse; output of a job as it was when one looked stands in an
aside between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlrcbench.budget import Left

MAX_CHARS = 100_000
MAX_ASIDE_CHARS = 20_000
_COARSE_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)


@dataclass(frozen=True, slots=True)
class Observation:
    """What an agent is told after a reset or a step.

    Attributes:
        body: The statement and the file tree, or the result of the action.
        left: What is left of the budget.
        best: Largest relative improvement on dev so far; 0, the baseline, before any.
        seconds: Time that the step took; None for a reset.
        aside: What a job had printed when the step ended; it may be another in a replay.
    """

    body: str
    left: Left
    best: float
    seconds: float | None = None
    aside: str = ""

    @property
    def text(self) -> str:
        """Body, aside if there is one, and status line."""
        aside = f"{self.aside}\n" if self.aside else ""
        return f"{self.body}\n{aside}{self.status}"

    @property
    def status(self) -> str:
        """For example "[under 5 s; left: 49 steps, 10 evaluations, 60 min; best on dev: +0.0 %]"."""
        took = "" if self.seconds is None else f"{coarse_seconds(self.seconds)}; "
        left = (
            f"{_count(self.left.steps, 'step')}, {_count(self.left.evaluations, 'evaluation')}, "
            f"{_minutes(self.left.seconds)}"
        )
        return f"[{took}left: {left}; best on dev: {100 * self.best:+.1f} %]"

    def to_space(self) -> dict[str, Any]:
        """The form that `spaces.observation_space` contains; scalars have shape (1,)."""
        return {
            "text": self.text,
            "steps_left": np.array([self.left.steps], np.int64),
            "evaluations_left": np.array([self.left.evaluations], np.int64),
            "seconds_left": np.array([self.left.seconds], np.float64),
            "best_improvement": np.array([self.best], np.float64),
        }


def coarse_seconds(seconds: float) -> str:
    """A duration that reads the same in two runs, nearly always: "under 5 s"."""
    bound = next((bound for bound in _COARSE_SECONDS if seconds < bound), None)
    return f"under {bound} s" if bound else f"over {_COARSE_SECONDS[-1]} s"


def cut(text: str, limit: int = MAX_CHARS) -> str:
    """`text`, or its head and tail with the number of characters left out between.

    File names can hold bytes that are no Unicode; they are shown escaped.
    """
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half:,} characters left out ...]\n{text[-half:]}"


def join_output(head: bytes, tail: bytes, omitted: int, log: str | None) -> str:
    """A command's output as text, with what was left out and where the whole of it lies."""
    if not omitted:
        return (head + tail).decode("utf-8", errors="replace")
    where = f"; the whole output is in {log}" if log else ""
    return (
        head.decode("utf-8", errors="replace")
        + f"\n[... {omitted:,} bytes left out{where} ...]\n"
        + tail.decode("utf-8", errors="replace")
    )


def tree(paths: Sequence[str], limit: int = 200) -> str:
    """A listing of relative paths, folders ending in a slash, cut after `limit` lines."""
    shown = sorted(paths)[:limit]
    more = len(paths) - len(shown)
    return "\n".join([*shown, *([f"... and {more:,} more"] if more else [])])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
