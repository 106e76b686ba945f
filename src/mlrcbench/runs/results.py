"""What a run found: results read back, and the table that sums them up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlrcbench.aggregates import Interval, bootstrap, interquartile_mean, mean_of_all, succeeded
from mlrcbench.errors import RunError
from mlrcbench.runs.plan import EPISODES, Assignment
from mlrcbench.table import table

RESULT = "result.json"
Outcome = Literal["played", "agent failed", "infrastructure failed"]


@dataclass(frozen=True, slots=True)
class Result:
    """How one episode went.

    Attributes:
        assignment: Which episode.
        outcome: "played" to its end; "agent failed" (its program broke off); "infrastructure failed"
            (sandbox, scorer or data; never scored).
        reason: Why it failed; empty if it was played.
        folder: Where its record and log lie.
        test: The final score, as `Score.to_json` has it; None if there was none.
        dev: The scores of its evaluations, in order, likewise.
        steps: How many it took.
        seconds: Wall time, building its instance included.
        record: Path of its record below the folder.
        usage: What its language model used, if it has one: "prompt" and "completion" tokens, "money"
            in US dollars (None without a price), and whether tokens are "estimated"; in this try.
    """

    assignment: Assignment
    outcome: Outcome
    reason: str
    folder: Path
    test: dict[str, Any] | None = None
    dev: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    record: str | None = None
    usage: dict[str, Any] | None = None

    @property
    def improvement(self) -> float | None:
        """On test; an invalid submission and an agent that failed are worth the baseline, 0.

        None if the infrastructure failed: that says nothing about the agent.
        """
        if self.outcome == "infrastructure failed":
            return None
        value = self.test["improvement"] if self.test else None
        return 0.0 if value is None else float(value)


@dataclass(frozen=True, slots=True)
class Row:
    """One agent's line of a leaderboard.

    Attributes:
        agent: Its name.
        means: Competition -> mean improvement over instances and trials.
        mean: Of these, plainly, as the paper averages competitions.
        robust: Interquartile mean over all episodes, with its interval.
        success: Share of episodes that close more than 5 % of the gap to the human.
        failures: How many episodes ended in which way other than with a valid score.
    """

    agent: str
    means: dict[str, float]
    mean: float
    robust: Interval
    success: float
    failures: dict[str, int]


def read_result(folder: Path) -> Result | None:
    """The result of an episode's folder; None if there is none yet."""
    try:
        data = json.loads((folder / RESULT).read_text("utf-8"))
    except FileNotFoundError:
        return None
    assignment = Assignment(**data.pop("assignment"))
    return Result(assignment=assignment, folder=folder, **data)


def read_results(directory: str | Path) -> list[Result]:
    """All results of a run, by name.

    Raises:
        RunError: The directory holds no run.
    """
    root = Path(directory) / EPISODES
    if not root.is_dir():
        raise RunError(f"{directory} holds no run; name a directory that one wrote")
    folders = sorted(root.iterdir())
    return [result for folder in folders if (result := read_result(folder)) is not None]


def leaderboard(results: Iterable[Result]) -> list[Row]:
    """One row per agent, the best mean first; episodes whose infrastructure failed are left out."""
    by_agent: dict[str, list[Result]] = {}
    for result in results:
        by_agent.setdefault(result.assignment.agent, []).append(result)
    rows = [_row(agent, found) for agent, found in by_agent.items() if scores_by_competition(found)]
    return sorted(rows, key=lambda row: row.mean, reverse=True)


def leaderboard_table(results: Sequence[Result]) -> str:
    """The leaderboard for a terminal, improvements in percent."""
    competitions = sorted({result.assignment.competition for result in results})
    header = ["agent", *competitions, "mean", "interquartile mean (95 %)", "success", "failures"]
    lines = []
    for row in leaderboard(results):
        cells = [f"{100 * row.means[name]:.1f}" if name in row.means else "-" for name in competitions]
        robust = (
            f"{100 * row.robust.value:.1f} ({100 * row.robust.lower:.1f} to {100 * row.robust.upper:.1f})"
        )
        failures = ", ".join(f"{count} {name}" for name, count in sorted(row.failures.items())) or "none"
        lines.append(
            [row.agent, *cells, f"{100 * row.mean:.1f}", robust, f"{100 * row.success:.0f} %", failures]
        )
    return table(header, lines)


def _row(agent: str, results: Sequence[Result]) -> Row:
    scores = scores_by_competition(results)
    pooled = [value for values in scores.values() for value in values]
    return Row(
        agent=agent,
        means={name: sum(values) / len(values) for name, values in scores.items()},
        mean=mean_of_all(scores),
        robust=bootstrap(scores, interquartile_mean),
        success=sum(map(succeeded, pooled)) / len(pooled),
        failures=dict(Counter(word for result in results if (word := _failure(result)))),
    )


def scores_by_competition(results: Iterable[Result]) -> dict[str, list[float]]:
    """Improvements, competition by competition; episodes whose infrastructure failed are left out."""
    found: dict[str, list[float]] = {}
    for result in results:
        if result.improvement is not None:
            found.setdefault(result.assignment.competition, []).append(result.improvement)
    return found


def _failure(result: Result) -> str:
    """A word for how an episode ended without a valid score; empty if it has one."""
    if result.outcome != "played":
        return result.outcome
    outcome = result.test["outcome"] if result.test else "invalid"
    return "" if outcome == "scored" else str(outcome)
