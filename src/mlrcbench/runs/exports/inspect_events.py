"""The transcript of an episode as events of Inspect: its actions, and its scores on dev as they came."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mlrcbench.protocol.actions import ACTIONS
from mlrcbench.runs.exports.exported import ExportedEpisode
from mlrcbench.storage.record import EvaluationRecord, StepRecord

_MAX_SECONDS = 1e10  # a record of a stranger may say more than the sum can hold


def transcript(
    episode: ExportedEpisode, started: float, time: Callable[[float], str]
) -> list[dict[str, Any]]:
    """The events of an episode, in order.

    Args:
        episode: The episode.
        started: When it started, in seconds since 1970.
        time: Writes such a moment as Inspect does.
    """
    events, passed = [], 0.0
    scored: dict[int, list[EvaluationRecord]] = {}
    for evaluation in episode.record.evaluations:
        if evaluation.split == "dev" and evaluation.by == "agent":
            scored.setdefault(evaluation.after_step, []).append(evaluation)
    for row in episode.record.steps:
        before, passed = passed, min(passed + row.seconds, _MAX_SECONDS)
        place = {"timestamp": time(started + before), "working_start": before}
        events.append(
            {**_step(row), **place, "completed": time(started + passed), "working_time": row.seconds}
        )
        for evaluation in scored.get(row.step, []):
            place = {"timestamp": time(started + passed), "working_start": passed}
            events.append({**_score(evaluation), **place})
    return events


def _step(row: StepRecord) -> dict[str, Any]:
    """A step as the call of a tool; what is not an action is the text of a tool called "unknown"."""
    action = row.action
    try:
        action = json.loads(action) if isinstance(action, str) else action
        json.dumps(action, allow_nan=False)  # Inspect reads neither NaN nor infinity
    except (ValueError, RecursionError):
        action = None
    if not (isinstance(action, dict) and action.get("action") in tuple(ACTIONS)):
        action = {"action": "unknown", "text": str(row.action)}
    text = "\n".join(part for part in (row.body, row.aside, row.status) if part)
    event = {
        "event": "tool",
        "type": "function",
        "id": f"call_{row.step}",
        "function": action["action"],
        "arguments": {name: value for name, value in action.items() if name != "action"},
        "result": text,
    }
    if row.error:
        event["error"] = {"type": "unknown", "message": row.error}
    return event


def _score(evaluation: EvaluationRecord) -> dict[str, Any]:
    score = evaluation.score
    explanation = score.reason or f"{score.value:.6g} on dev"
    judged = {"value": score.improvement or 0.0, "explanation": explanation}
    return {"event": "score", "intermediate": True, "scorer": "dev", "score": judged}
