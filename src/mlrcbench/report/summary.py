"""Figures of runs: the leaderboard, and what lies behind each of its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlrcbench import __version__
from mlrcbench.aggregates import padded_mean, pass_at_k, relative_cost, succeeded
from mlrcbench.errors import RunError
from mlrcbench.runs import Result, Row, leaderboard
from mlrcbench.runs.results import scores_by_competition


@dataclass(frozen=True, slots=True)
class Report:
    """What a page shows.

    Attributes:
        title: Of the page.
        version: Of mlrcbench.
        rows: The leaderboard, best first.
        competitions: Ids, in order.
        best: Agent -> competition -> best improvement over all its episodes, as the paper reports.
        pass_at: Agent -> chance of a success within 1, 2, ... trials, averaged over competitions.
        curves: Agent -> quantity -> mean at each evaluation on dev; see `CURVES`.
        costs: Agent -> {"seconds": mean wall seconds per episode, "improvement": its mean}, and with a
            language model "tokens" and, if its price is known, "money": means per episode, US dollars.
        episodes: One dict of JSON types per episode, short; see `_episode`.
        results: What all this is computed from.
        judgements: Summaries of judge studies; see `mlrcbench.judge`.
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


CURVES = {
    "improvement": "improvement on dev (1 = human)",
    "runtime": "runtime of the method relative to the baseline's (0 = the same)",
    "lines": "logical lines relative to the baseline's (0 = the same)",
}


def summarise(
    results: Sequence[Result], title: str = "mlrcbench", judgements: Sequence[dict[str, Any]] = ()
) -> Report:
    """Compute all figures of a report.

    Args:
        results: Of one run or several.
        title: Of the page.
        judgements: See `mlrcbench.judge.read_judgement`.

    Raises:
        RunError: There are no results.
    """
    if not results:
        raise RunError("there is no finished episode to report; let the run play at least one")
    rows = leaderboard(results)
    agents = [row.agent for row in rows]
    by_agent = {agent: [one for one in results if one.assignment.agent == agent] for agent in agents}
    return Report(
        title=title,
        version=__version__,
        rows=rows,
        competitions=sorted({one.assignment.competition for one in results}),
        best={agent: _best(found) for agent, found in by_agent.items()},
        pass_at={agent: _pass_at(found) for agent, found in by_agent.items()},
        curves={agent: _curves(found, results) for agent, found in by_agent.items()},
        costs={row.agent: _cost(row, by_agent[row.agent]) for row in rows},
        episodes=[_episode(one) for one in results],
        results=list(results),
        judgements=list(judgements),
    )


def _best(results: Sequence[Result]) -> dict[str, float]:
    return {name: max(values) for name, values in scores_by_competition(results).items()}


def _pass_at(results: Sequence[Result]) -> list[float]:
    """pass@k for k up to the fewest trials of a competition, averaged over competitions."""
    scores = list(scores_by_competition(results).values())
    fewest = min((len(values) for values in scores), default=0)
    successes = [(len(values), sum(map(succeeded, values))) for values in scores]
    return [
        math.fsum(pass_at_k(trials, count, k) for trials, count in successes) / len(successes)
        for k in range(1, fewest + 1)
    ]


def _curves(results: Sequence[Result], every: Sequence[Result]) -> dict[str, list[float]]:
    """Means over episodes at the first, second, ... evaluation; invalid ones count as the baseline."""
    found: dict[str, list[list[float]]] = {name: [] for name in CURVES}
    for one in results:
        base = _baseline_costs(one, every)
        found["improvement"].append([score["improvement"] or 0.0 for score in one.dev])
        for name, key in (("runtime", "wall_seconds"), ("lines", "logical_lines")):
            costs = [score.get(key) for score in one.dev]
            if base.get(key) and all(costs):
                found[name].append([relative_cost(float(cost), base[key]) for cost in costs if cost])
    return {name: padded_mean(curves) for name, curves in found.items()}


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
    """Tokens and US dollars of an episode; None without a language model, or without a price."""
    used = one.usage or {}
    tokens = used["prompt"] + used["completion"] if used else None
    return {"tokens": tokens, "money": used.get("money")}


def _episode(one: Result) -> dict[str, Any]:
    """An episode in one line."""
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
        "evaluations": len(one.dev),
        "steps": one.steps,
        "seconds": one.seconds,
        **_spent(one),
    }
