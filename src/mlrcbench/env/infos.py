"""The infos that come with observations, as dicts of JSON types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlrcbench.env.episode import Conclusion, Episode
from mlrcbench.env.workbench import ActionResult


def first_info(episode: Episode) -> dict[str, Any]:
    """The info of a reset: the competition, the instance, the isolation."""
    state = episode.state
    return {
        "competition": state.competition,
        "version": state.version,
        "tier": state.tier,
        "instance": state.instance,
        "isolation": episode.workbench.sandbox.isolation.to_json(),
    }


def step_info(result: ActionResult, terms: Mapping[str, float], conclusion: Conclusion) -> dict[str, Any]:
    """The info of a step: the action, its error, the reward's terms, scores, the reason of a truncation."""
    info: dict[str, Any] = {"action": result.name, "error": result.error, "reward_terms": terms}
    if result.score is not None:
        info["score"] = result.score.summary()
    if conclusion.score is not None:
        info["test_score"] = conclusion.score.summary()
    if conclusion.truncated_by is not None:
        info["truncated_by"] = conclusion.truncated_by
    return info
