"""Observation: what an agent reads, in its parts.

The body of an observation depends on nothing but the instance and the actions, so that a replay
can compare it letter by letter. Everything that depends on the clock (time taken, time left) is in
the status line, and is coarse. What a running job has printed so far is in an aside between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlrcbench.protocol.meter import Left
from mlrcbench.text import on_terminal, without_blank_ends

MAX_ASIDE_CHARS = 20_000
_COARSE_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)


@dataclass(frozen=True, slots=True)
class Observation:
    """What an agent reads after a reset or a step.

    Attributes:
        body: The statement and the file tree, or the result of the action.
        left: What is left of the budget.
        best: Largest relative improvement on dev so far; 0, the baseline, before the first.
        seconds: Time that the step took; None for a reset.
        aside: What a job had printed when the step ended; it may differ in a replay.
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
        remaining = (
            f"{_count(self.left.steps, 'step')}, {_count(self.left.evaluations, 'evaluation')}, "
            f"{_minutes(self.left.seconds)}"
        )
        return f"[{took}left: {remaining}; best on dev: {100 * self.best:+.1f} %]"

    def to_space(self) -> dict[str, Any]:
        """The observation as an element of `spaces.observation_space`; numbers have shape (1,)."""
        return {
            "text": self.text,
            "steps_left": np.array([self.left.steps], np.int64),
            "evaluations_left": np.array([self.left.evaluations], np.int64),
            "seconds_left": np.array([self.left.seconds], np.float64),
            "best_improvement": np.array([self.best], np.float64),
        }


def coarse_seconds(seconds: float) -> str:
    """A duration in words that are nearly always the same in two runs, for example "under 5 s"."""
    bound = next((bound for bound in _COARSE_SECONDS if seconds < bound), None)
    return f"under {bound} s" if bound else f"over {_COARSE_SECONDS[-1]} s"


def join_output(head: bytes, tail: bytes, omitted: int, log: str | None) -> str:
    """A program's output as a terminal shows it, with a note on what was left out and where the whole is.

    Blank lines before and after are dropped; the indentation of the first line is not.
    """
    if not omitted:
        return without_blank_ends(_read(head + tail))
    where = f"; the whole output is in {log}" if log else ""
    return without_blank_ends(f"{_read(head)}\n[... {omitted:,} bytes left out{where} ...]\n{_read(tail)}")


def hides(output: bytes) -> bool:
    """Whether a terminal shows less of an output than its bytes hold, as of a progress bar."""
    return _read(output) != output.decode("utf-8", errors="replace").replace("\r\n", "\n")


def _read(output: bytes) -> str:
    return on_terminal(output.decode("utf-8", errors="replace"))


def tree(paths: Sequence[str], limit: int = 200) -> str:
    """A listing of relative paths, folders ending in a slash, cut after `limit` lines."""
    lines = sorted(paths)[:limit]
    more = len(paths) - len(lines)
    return "\n".join([*lines, *([f"... and {more:,} more"] if more else [])])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
