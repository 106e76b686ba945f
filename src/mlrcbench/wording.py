"""Wording: what an agent is told of its competition, its commands and its scores."""

from __future__ import annotations

from collections.abc import Sequence

from mlrcbench import actions
from mlrcbench.card import Card, Tier
from mlrcbench.observation import tree
from mlrcbench.sandbox import ExecResult
from mlrcbench.score import Score


def briefing(statement: str, files: Sequence[str], tier: Tier) -> str:
    """What an agent reads at the start: the statement, its files, its limits, its actions."""
    limits = tier.limits
    threads = f"{limits.threads} thread{'' if limits.threads == 1 else 's'} for numeric libraries"
    bounds = (
        f"{limits.command_seconds:g} s for a command, {limits.evaluation_seconds:g} s for an evaluation, "
        f"{limits.memory_mb} MiB of memory, {limits.workspace_mb} MiB of files, {threads}, no network."
    )
    parts = (
        statement.rstrip(),
        f"## Files\n\n{tree(files)}",
        f"## Limits\n\n{bounds}",
        _actions_part(),
    )
    return "\n\n".join(parts)


def without_actions(briefing: str) -> str:
    """A briefing for whoever is given the actions as tools, which say the same."""
    return briefing.replace(f"{_actions_part()}\n", "").rstrip()


def _actions_part() -> str:
    return f"## Actions\n\nOne JSON object at a time:\n\n{actions.describe()}"


def verdict(score: Score, card: Card, tier: Tier) -> str:
    """A score on dev, with its parts; or why there is none."""
    if score.value is None:
        return f"dev: {score.outcome}: {score.reason}"
    details = "".join(f"\n  {name}: {value:.6g}" for name, value in sorted(score.details.items()))
    kind = tier.anchors["dev"].target_kind
    gain = 100 * (score.improvement or 0.0)
    return (
        f"dev: {card.metric.name} {score.value:.6g} ({card.metric.unit}, {card.metric.direction}); "
        f"{gain:+.1f} % of the way from the baseline to the {kind}{details}"
    )


def ending(result: ExecResult, seconds: float) -> str:
    """How a command ended."""
    if result.ending == "exited":
        return f"exit status {result.exit_status}"
    reasons = {
        "timeout": "the time limit" if seconds < 1 else f"its time limit of {seconds:.0f} s",
        "memory": "the memory limit",
        "disk": "the limit on the size of the workspace",
        "processes": "the limit on processes",
    }
    return f"stopped: it reached {reasons.get(result.ending, result.ending)}"
