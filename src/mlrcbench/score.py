"""Score: one judgement of one workspace on one split.

A competition's scorer fills in `value` and `details`; the evaluation adds what it alone
knows (split, improvement, resources, code size). Whatever happens to agent code, the result
is a `Score`: scored, or not scored with a reason that the agent can act on. Only a failure of
the infrastructure is an exception instead.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from mlrcbench.errors import SubmissionError

Split = Literal["dev", "test"]
Outcome = Literal["scored", "invalid", "timeout", "memory"]

SPLITS: tuple[Split, ...] = ("dev", "test")


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """One judgement.

    Attributes:
        value: The competition's metric in its own unit; None unless `outcome` is "scored".
        outcome: "scored", or why there is no value: "invalid", "timeout", "memory".
        reason: What the agent can do about it; empty when scored.
        details: Parts of the metric by name, for example `{"recall": 41.2}`.
        split: "dev" or "test".
        improvement: Relative improvement to the target anchor (0 = baseline, 1 = target,
            unbounded both ways); None unless scored. See `metrics.improvement`.
        wall_seconds: Wall time of the agent's entry point, imports included.
        cpu_seconds: User and system time of its whole process tree.
        peak_memory_bytes: Largest resident set of a process of it.
        logical_lines: Statements in all Python files that the agent added or changed,
            docstrings not counted.
        logical_lines_single: The paper's count: every statement of the one file that the
            card names as the method's, docstrings counted (reference code, `utils.py`).
    """

    value: float | None
    outcome: Outcome = "scored"
    reason: str = ""
    details: Mapping[str, float] = dataclasses.field(default_factory=dict)
    split: Split | None = None
    improvement: float | None = None
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    logical_lines: int = 0
    logical_lines_single: int = 0

    def __post_init__(self) -> None:
        if (self.outcome == "scored") != (self.value is not None):
            raise ValueError("a Score has a value if and only if its outcome is 'scored'")
        if self.value is not None and not math.isfinite(self.value):
            raise SubmissionError(f"the metric of these artefacts is {self.value}; check for huge values")

    @classmethod
    def invalid(cls, reason: str, outcome: Outcome = "invalid") -> Score:
        """A judgement without a value, and the reason why."""
        return cls(value=None, outcome=outcome, reason=reason)

    @property
    def valid(self) -> bool:
        """Whether there is a value."""
        return self.outcome == "scored"

    def summary(self) -> dict[str, Any]:
        """What an agent and a host are told in `info`: all that does not depend on the clock."""
        return {
            "value": self.value,
            "outcome": self.outcome,
            "reason": self.reason,
            "improvement": self.improvement,
            "details": dict(self.details),
        }

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON types that `from_json` reads back."""
        return {**dataclasses.asdict(self), "details": dict(self.details)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Score:
        """The score that `to_json` wrote; keys of later versions are ignored."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})
