"""Score: one judgement of one workspace on one split.

A competition's scorer fills in `value`, `error` and `details`; the evaluation adds what only it
knows (split, improvement, resources, code size). Whatever happens to agent code, the result
is a `Score`: either scored, or not scored for a reason that the agent can act on. Only a failure
of the infrastructure raises an exception instead.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from mlrcbench.errors import SubmissionError, shortened
from mlrcbench.text import html_table, one_line, percent

Split = Literal["dev", "test"]
Outcome = Literal["scored", "invalid", "timeout", "memory"]

SPLITS: tuple[Split, ...] = ("dev", "test")
_MAX_REASON_CHARS = 4_000


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """The judgement of one workspace on one split.

    Attributes:
        value: The competition's metric, in the unit of its card; None unless `outcome` is "scored".
        outcome: "scored", or why no value exists: "invalid", "timeout", "memory".
        reason: Why the score is missing, and what the agent can do about it; empty when scored. Only
            printable characters and line ends are kept as they are: it may quote what agent code wrote.
        details: Parts of the metric by name, for example `{"recall": 41.2}`.
        split: "dev" or "test".
        improvement: Relative improvement to the target anchor (0 = baseline, 1 = target,
            unbounded both ways); None unless scored. See `catalog.scale.improvement`.
        rung: Between which published methods the score stands, for example "above TIES-Merging (Yadav et
            al. 2023), below Iso-C (Marczak et al. 2025)"; empty without a calibrated ladder. Agents do
            not see it. See `catalog.ladder`.
        wall_seconds: Wall time of the agent's entry point, imports included.
        cpu_seconds: User and system time of the entry point's whole process tree.
        peak_memory_bytes: Largest resident set of a single process of that tree.
        logical_lines: Number of statements in all Python files that the agent added or changed,
            without docstrings.
        logical_lines_single: The paper's count: every statement of the one file that the card
            names as the method's, with docstrings (reference code, `utils.py`).
        error: Standard error of `value`, in the metric's unit, over the draw of the split's items; None
            if the scorer does not estimate it. See `aggregates`.
        improvement_error: Standard error of `improvement`, over the draw of items, and over that of
            instances and seeds as far as the card declares it; None without `error`. See
            `catalog.scale.improvement_error`.
    """

    value: float | None
    outcome: Outcome = "scored"
    reason: str = ""
    details: Mapping[str, float] = dataclasses.field(default_factory=dict)
    split: Split | None = None
    improvement: float | None = None
    rung: str = ""
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    logical_lines: int = 0
    logical_lines_single: int = 0
    error: float | None = None
    improvement_error: float | None = None

    def __post_init__(self) -> None:
        if (self.outcome == "scored") != (self.value is not None):
            raise ValueError("a Score has a value if and only if its outcome is 'scored'")
        if self.value is not None and not math.isfinite(self.value):
            raise SubmissionError(f"the metric of these artefacts is {self.value}; check for huge values")
        for error in (self.error, self.improvement_error):
            if error is not None and not (math.isfinite(error) and error >= 0):
                raise ValueError(f"a standard error is a finite number from 0, not {error}")
        object.__setattr__(self, "reason", _printable(self.reason))

    def __repr__(self) -> str:
        split = f" on {self.split}" if self.split else ""
        if self.value is None:
            return f"<Score{split}: {self.outcome}: {shortened(one_line(self.reason))}>"
        gain = "" if self.improvement is None else f", {percent(self.improvement, self.improvement_error)}"
        return f"<Score{split}: {self.value:.6g}{gain}>"

    def _repr_html_(self) -> str:
        """The score as a table, for notebooks."""
        gain = self.improvement
        rows = [
            ("split", self.split or ""),
            ("outcome", self.outcome),
            ("reason", self.reason),
            ("value", "" if self.value is None else f"{self.value:.6g}"),
            ("improvement", "" if gain is None else percent(gain, self.improvement_error)),
            ("stands", self.rung),
            *((name, f"{value:.6g}") for name, value in sorted(self.details.items())),
            ("CPU seconds", f"{self.cpu_seconds:.1f}"),
        ]
        return html_table(["", "score"], [row for row in rows if row[1]])

    @classmethod
    def invalid(cls, reason: str, outcome: Outcome = "invalid") -> Score:
        """A score without a value, and the reason for it."""
        return cls(value=None, outcome=outcome, reason=reason)

    @property
    def valid(self) -> bool:
        """Whether the score has a value."""
        return self.outcome == "scored"

    def summary(self) -> dict[str, Any]:
        """The part of the score that `info` holds: what does not depend on the clock, and no `rung`."""
        return {
            "value": self.value,
            "outcome": self.outcome,
            "reason": self.reason,
            "improvement": self.improvement,
            "error": self.error,
            "improvement_error": self.improvement_error,
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


def _printable(text: str) -> str:
    """A text that has a UTF-8 form and does nothing to a terminal, cut where it is very long."""
    shown = "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)
    return shown if len(shown) <= _MAX_REASON_CHARS else f"{shown[:_MAX_REASON_CHARS]}..."
