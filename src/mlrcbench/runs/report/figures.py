"""Figures of runs: the leaderboard, and the numbers behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlrcbench.__version__ import __version__
from mlrcbench.aggregates import padded_mean, pass_at_k, relative_cost
from mlrcbench.errors import RunError
from mlrcbench.runs import Result, Row, leaderboard
from mlrcbench.runs.leaderboard import scores_by_competition
from mlrcbench.runs.report.process_table import process_means


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a page shows.

    Attributes:
        title: The page's title.
        version: The version of mlrcbench.
        rows: The leaderboard, best first.
        competitions: Ids of competitions, in order.
        best: Agent -> competition -> best improvement over all its episodes, as the paper reports.
        pass_at: Agent -> probability of a success within 1, 2, ... trials, averaged over competitions.
        curves: Agent -> quantity -> mean at each evaluation on dev; see `CURVES`.
        costs: Agent -> {"seconds": mean wall seconds per episode, "improvement": its mean}, and with a
            language model "tokens" and, if its price is known, "money": means per episode, US dollars.
        episodes: One short dict of JSON types per episode; see `_episode`.
        results: The results from which all this is computed.
        judgements: Summaries of judge studies; see `mlrcbench.runs.judge`.
        process: Agent -> process metric -> mean, if they were asked for; see `process_means`.
    """

    title: str
    version: str
    rows: list[Row]
    competitions: list[str]
    best: dict[str, dict[str, float]]
    pass_at: dict[str, list[float]]
    curves: dict[str, dict[str, list[float]]]
    costs: dict[str, dict[str, float]]
    episodes: list[dict[str, Any]]
    results: list[Result]
    judgements: list[dict[str, Any]]
    process: dict[str, dict[str, float | None]]


CURVES = {
    "improvement": "improvement on dev (1 = human)",
    "runtime": "runtime of the method relative to the baseline's (0 = the same)",
    "lines": "logical lines relative to the baseline's (0 = the same)",
}


def summarise(
    results: Sequence[Result],
    title: str = "mlrcbench",
    judgements: Sequence[dict[str, Any]] = (),
    *,
    process: bool = False,
) -> Report:
    """Compute all figures of a report.

    Args:
        results: Results of one or several runs.
        title: The page's title.
        judgements: See `mlrcbench.runs.judge.read_judgement`.
        process: Whether to compute the process metrics, which reads every record.

    Raises:
        RunError: `results` is empty.
    """
    if not results:
        raise RunError("the run has no finished episode to report; let it play at least one")
    rows = leaderboard(results)
    agents = [row.agent for row in rows]
    by_agent = {agent: [one for one in results if one.assignment.agent == agent] for agent in agents}
    return Report(
        title=title,
        version=__version__,
        rows=rows,
        competitions=sorted({one.assignment.competition for one in results}),
        best={agent: _best(played) for agent, played in by_agent.items()},
        pass_at={agent: _pass_at(played) for agent, played in by_agent.items()},
        curves={agent: _curves(played, results) for agent, played in by_agent.items()},
        costs={row.agent: _cost(row, by_agent[row.agent]) for row in rows},
        episodes=[_episode(one) for one in results],
        results=list(results),
        judgements=list(judgements),
        process=process_means(results) if process else {},
    )


def _best(results: Sequence[Result]) -> dict[str, float]:
    return {name: max(values) for name, values in scores_by_competition(results).items()}


def _pass_at(results: Sequence[Result]) -> list[float]:
    """pass@k for k up to the fewest trials of a competition, averaged over competitions."""
    trials: dict[str, list[bool]] = {}
    for one in results:
        trials.setdefault(one.assignment.competition, []).append(one.succeeded)
    fewest = min(map(len, trials.values()), default=0)
    successes = [(len(values), sum(values)) for values in trials.values()]
    return [
        math.fsum(pass_at_k(number, count, k) for number, count in successes) / len(successes)
        for k in range(1, fewest + 1)
    ]


def _curves(results: Sequence[Result], every: Sequence[Result]) -> dict[str, list[float]]:
    """Means over episodes at the first, second, ... evaluation; invalid ones count as the baseline."""
    curves: dict[str, list[list[float]]] = {name: [] for name in CURVES}
    for one in results:
        base = _baseline_costs(one, every)
        curves["improvement"].append([score["improvement"] or 0.0 for score in one.dev])
        for name, key in (("runtime", "wall_seconds"), ("lines", "logical_lines")):
            costs = [score.get(key) for score in one.dev]
            if base.get(key) and all(costs):
                curves[name].append([relative_cost(float(cost), base[key]) for cost in costs if cost])
    return {name: padded_mean(episodes) for name, episodes in curves.items()}


def _baseline_costs(one: Result, every: Sequence[Result]) -> dict[str, float]:
    """Means of the baseline's evaluations of the same competition in the same report."""
    base = [
        score
        for other in every
        if (other.assignment.agent, other.assignment.competition) == ("baseline", one.assignment.competition)
        for score in other.dev
    ]
    keys = ("wall_seconds", "logical_lines")
    return {key: sum(score[key] for score in base) / len(base) for key in keys if base}


def _cost(row: Row, results: Sequence[Result]) -> dict[str, float]:
    cost = {"seconds": math.fsum(one.seconds for one in results) / len(results), "improvement": row.mean}
    for name in ("tokens", "money"):
        spent = [figure for one in results if (figure := _spent(one)[name]) is not None]
        if spent and len(spent) == len(results):
            cost[name] = math.fsum(spent) / len(spent)
    return cost


def _spent(one: Result) -> dict[str, float | None]:
    """Tokens and US dollars of an episode's attempts; None without a language model or without a price."""
    used = [attempt.usage for attempt in (one, *one.attempts) if attempt.usage is not None]
    if not used:
        return {"tokens": None, "money": None}
    prices = [usage["money"] for usage in used]
    return {
        "tokens": sum(usage["prompt"] + usage["completion"] for usage in used),
        "money": None if None in prices else math.fsum(prices),
    }


def _episode(one: Result) -> dict[str, Any]:
    """An episode as a row of a table."""
    test = one.test or {}
    return {
        "name": one.assignment.name,
        "agent": one.assignment.agent,
        "competition": one.assignment.competition,
        "instance": one.assignment.instance,
        "trial": one.assignment.trial,
        "outcome": test.get("outcome", one.outcome) if one.outcome == "played" else one.outcome,
        "value": test.get("value"),
        "improvement": one.improvement,
        "improvement_error": one.improvement_error,
        "success": one.succeeded,
        "attempts": 1 + len(one.attempts),
        "evaluations": len(one.dev),
        "steps": one.steps,
        "seconds": one.seconds,
        **_spent(one),
    }
