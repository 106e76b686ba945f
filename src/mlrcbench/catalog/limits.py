"""What an episode may spend, and what its commands and evaluations may use.

The numbers stand in the card of a competition; `Budget.override` replaces some for one episode.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlrcbench.errors import CardError, nearest, shown
from mlrcbench.sandbox import Limits

_LEAST = 1e-9  # seconds
_MAX_EXACT = 1 << 53  # up to here, JSON and numpy carry whole numbers exactly


@dataclass(frozen=True, slots=True)
class Budget:
    """What one episode may spend.

    Attributes:
        steps: Number of actions, well-formed or not.
        seconds: Wall time since the reset.
        evaluations: Number of evaluations on dev.
    """

    steps: int
    seconds: float
    evaluations: int

    def __post_init__(self) -> None:
        parts = (
            ("steps", self.steps, 1),
            ("seconds", self.seconds, _LEAST),
            ("evaluations", self.evaluations, 0),
        )
        for name, value, least in parts:
            numeric = isinstance(value, int | float) and not isinstance(value, bool)
            if not numeric or not least <= value <= _MAX_EXACT or (least != _LEAST and value != int(value)):
                kind = "number" if least == _LEAST else "whole number"
                raise CardError(
                    f"a budget's {name} must be a {kind} from {least} to 2**53, not {shown(value)}"
                )

    def override(self, changes: Budget | Mapping[str, float] | None) -> Budget:
        """This budget with some of its parts replaced.

        Args:
            changes: A whole budget, some parts of one by name, or None.

        Raises:
            CardError: A name is not a part of a budget, or a value is not valid.
        """
        if isinstance(changes, Budget):
            return changes
        if not isinstance(changes, Mapping | None):
            raise CardError(
                f'a budget is given by its parts, for example {{"steps": 10}}, not {shown(changes)}'
            )
        known = {"steps": int, "seconds": float, "evaluations": int}
        for name in changes or {}:
            if name not in known:
                raise CardError(f"a budget has no part {name!r}. {nearest(str(name), known)}")
        parts: dict[str, Any] = dict(changes or {})
        budget = dataclasses.replace(self, **parts)  # which checks the numbers
        return Budget(int(budget.steps), float(budget.seconds), int(budget.evaluations))


@dataclass(frozen=True, slots=True)
class TierLimits:
    """Limits of a tier.

    Attributes:
        evaluation_seconds: Wall time that the entry point may take in an evaluation.
        command_seconds: Wall time that a command may take.
        evaluation_cpu_seconds: User and system time of all processes of an evaluation together.
        command_cpu_seconds: User and system time of all processes of a command together.
        scoring_seconds: Wall time that the scorer may take.
        memory_mb: Memory that a command or an evaluation may use, in MiB.
        workspace_mb: Size that the workspace may have, in MiB.
        processes: Number of processes and threads that a command may have.
        threads: Number of threads that numeric libraries use.
    """

    evaluation_seconds: float
    command_seconds: float
    scoring_seconds: float
    memory_mb: int
    workspace_mb: int
    processes: int
    threads: int
    evaluation_cpu_seconds: float = math.inf
    command_cpu_seconds: float = math.inf

    def of_command(self, seconds: float) -> Limits:
        """The limits of one command that may run for so many seconds of wall time."""
        return self._limits(seconds, self.command_cpu_seconds)

    def of_job(self, seconds: float) -> Limits:
        """The limits of a job, whose CPU time only the budget's seconds bound."""
        return self._limits(seconds, math.inf)

    def of_evaluation(self, seconds: float | None = None) -> Limits:
        """The limits of an evaluation's entry point, by default with its own wall time."""
        return self._limits(seconds or self.evaluation_seconds, self.evaluation_cpu_seconds)

    def _limits(self, seconds: float, cpu_seconds: float) -> Limits:
        return Limits(
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            memory_bytes=self.memory_mb << 20,
            processes=self.processes,
            workspace_bytes=self.workspace_mb << 20,
            threads=self.threads,
        )
