"""The leaderboard: one row per agent, with intervals; every episode of the plan counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlrcbench.aggregates import Interval, bootstrap, interquartile_mean, mean_of_all
from mlrcbench.runs.results import Result
from mlrcbench.text import html_table, table

AGAIN = "infrastructure failed, played again"


@dataclass(frozen=True, slots=True)
class Row:
    """One agent's line of a leaderboard.

    Attributes:
        agent: The agent's name.
        means: Competition -> mean improvement over instances and trials.
        mean: The plain mean of `means`, as the paper averages competitions.
        robust: Interquartile mean over all episodes, with its interval.
        success: Share of episodes that close more than 5 % of the gap to the human, and by more than their
            noise; see `aggregates.succeeded`.
        failures: Kind of failure -> number of episodes: those without a valid score by their outcome,
            and those with one whose first attempt the infrastructure ended, as `AGAIN`.
    """

    agent: str
    means: dict[str, float]
    mean: float
    robust: Interval
    success: float
    failures: dict[str, int]


class Leaderboard(list[Row]):
    """The rows of a leaderboard; `print` shows it as a table, and a notebook too."""

    def __str__(self) -> str:
        return table(*self._cells())

    def _repr_html_(self) -> str:
        return html_table(*self._cells())

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        """Header and lines, improvements in percent."""
        competitions = sorted({name for row in self for name in row.means})
        header = ["agent", *competitions, "mean", "interquartile mean (95 %)", "success", "failures"]
        return header, [_line(row, competitions) for row in self]


def _line(row: Row, competitions: Sequence[str]) -> list[str]:
    means = [f"{100 * row.means[name]:.1f}" if name in row.means else "-" for name in competitions]
    robust = f"{100 * row.robust.value:.1f} ({100 * row.robust.lower:.1f} to {100 * row.robust.upper:.1f})"
    failures = ", ".join(f"{count} {name}" for name, count in sorted(row.failures.items())) or "none"
    return [row.agent, *means, f"{100 * row.mean:.1f}", robust, f"{100 * row.success:.0f} %", failures]


def leaderboard(results: Iterable[Result]) -> Leaderboard:
    """One row per agent, the best mean first; an episode without a valid score counts as the baseline."""
    by_agent: dict[str, list[Result]] = {}
    for result in results:
        by_agent.setdefault(result.assignment.agent, []).append(result)
    rows = [_row(agent, played) for agent, played in by_agent.items()]
    return Leaderboard(sorted(rows, key=lambda row: row.mean, reverse=True))


def leaderboard_table(results: Sequence[Result]) -> str:
    """The leaderboard for a terminal, improvements in percent."""
    return str(leaderboard(results))


def _row(agent: str, results: Sequence[Result]) -> Row:
    scores = scores_by_competition(results)
    return Row(
        agent=agent,
        means={name: sum(values) / len(values) for name, values in scores.items()},
        mean=mean_of_all(scores),
        robust=bootstrap(scores, interquartile_mean),
        success=sum(one.succeeded for one in results) / len(results),
        failures=dict(Counter(failure for result in results if (failure := _failure(result)))),
    )


def scores_by_competition(results: Iterable[Result]) -> dict[str, list[float]]:
    """Improvements, competition by competition."""
    scores: dict[str, list[float]] = {}
    for result in results:
        scores.setdefault(result.assignment.competition, []).append(result.improvement)
    return scores


def _failure(result: Result) -> str:
    """How an episode failed; empty if it has a valid score from its first attempt."""
    if result.outcome != "played":
        return result.outcome
    outcome = result.test["outcome"] if result.test else "invalid"
    if outcome != "scored":
        return str(outcome)
    return AGAIN if result.attempts else ""
