"""Logs of Inspect (inspect.aisi.org.uk), which its viewer and its analyses read.

There is one file per competition, tier and agent, in Inspect's JSON format, version 2. Each episode is a
sample, whose id is the instance and whose epoch counts the instance's episodes. The score is the relative
improvement on test, 0 for an invalid submission; everything else is in the metadata. Inspect itself is not
needed.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mlrcbench.llm import Usage
from mlrcbench.runs.exports.chat import describe, to_bytes
from mlrcbench.runs.exports.exported import ExportedEpisode, Message
from mlrcbench.runs.exports.inspect_events import transcript
from mlrcbench.storage.layout import RECORD_FILE

SCORER = "improvement"
_LAST_MOMENT = 253_402_300_799.0  # of the year 9999
_STAMP = re.compile(r"(\d{8}-\d{6})-")


def export_inspect(episodes: Iterable[ExportedEpisode], folder: Path) -> list[Path]:
    """Write logs.

    Args:
        episodes: The episodes to export.
        folder: The folder of the logs; it is made if it does not exist.

    Returns:
        The files, one per competition, tier and agent.
    """
    groups: dict[tuple[str, str, str], list[ExportedEpisode]] = {}
    for episode in episodes:
        header = episode.record.header
        groups.setdefault((header.competition, header.tier, episode.agent), []).append(episode)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for group in groups.values():
        log = _log(group)
        stamp = log["eval"]["created"].replace(":", "-")
        path = folder / f"{stamp}_{_slug(log['eval']['task'])}_{log['eval']['eval_id']}.json"
        path.write_bytes(to_bytes(log))
        written.append(path)
    return written


def _log(episodes: Sequence[ExportedEpisode]) -> dict[str, Any]:
    """The log of a group of episodes: one competition, tier and agent."""
    header = episodes[0].record.header
    model = f"mlrcbench/{episodes[0].agent or 'unknown'}"
    epochs: dict[int, int] = {}
    samples = []
    for episode in sorted(episodes, key=_started):
        instance = episode.record.header.instance
        epochs[instance] = epochs.get(instance, 0) + 1
        samples.append(_sample(episode, model, epochs[instance]))
    task = f"mlrcbench/{header.competition}"
    # Inspect takes logs with one task_id for attempts at one evaluation, and shows only the last.
    alike = f"{header.competition}@{header.competition_version} {header.tier} {model}"
    names = "\n".join(episode.record.directory.name for episode in episodes)
    digest = hashlib.sha256(names.encode()).hexdigest()[:22]
    started = min(map(_started, episodes))
    ended = max(_started(episode) + _seconds(episode) for episode in episodes)
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": digest,
            "run_id": digest,
            "created": _time(started),
            "task": task,
            "task_id": hashlib.sha256(alike.encode("utf-8", "replace")).hexdigest()[:22],
            "task_version": header.competition_version,
            "task_args": {"tier": header.tier},
            "dataset": {
                "name": task,
                "samples": len(epochs),
                "sample_ids": sorted(epochs),
                "shuffled": False,
            },
            "model": model,
            "config": {"epochs": max(epochs.values())},
            "packages": {"mlrcbench": header.mlrcbench},
            "scorers": [{"name": SCORER}],
        },
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": _results(samples),
        "stats": {
            "started_at": _time(started),
            "completed_at": _time(ended),
            "model_usage": _model_usage(model, episodes),
        },
        "samples": samples,
    }


def _sample(episode: ExportedEpisode, model: str, epoch: int) -> dict[str, Any]:
    record, test = episode.record, episode.test
    description = describe(episode)
    messages = [_message(message, model) for message in episode.whole]
    sample = {
        "id": record.header.instance,
        "epoch": epoch,
        "input": record.header.statement,
        "target": "",
        "messages": messages,
        "output": {"model": model, "choices": _choices(messages)},
        "scores": None,
        "events": transcript(episode, _started(episode), _time),
        "metadata": {**description, "reward": episode.reward},
        "model_usage": _model_usage(model, [episode]),
        "started_at": _time(_started(episode)),
        "completed_at": _time(_started(episode) + _seconds(episode)),
        "total_time": _seconds(episode),
        "uuid": hashlib.sha256(record.directory.name.encode()).hexdigest()[:22],
    }
    if test is not None:
        sample["scores"] = {
            SCORER: {
                "value": test.improvement or 0.0,
                "explanation": test.reason or f"{test.value:.6g} on test",
                "metadata": description["test"],
            }
        }
    else:
        error = f"no final score: {description['ending']}"
        sample["error"] = {"message": error, "traceback": error, "traceback_ansi": error}
    return sample


def _results(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and its standard error over episodes, as Inspect names them."""
    values = [sample["scores"][SCORER]["value"] for sample in samples if sample["scores"]]
    count = len(values)
    mean = math.fsum(values) / count if count else 0.0
    spread = math.fsum((value - mean) ** 2 for value in values)
    error = math.sqrt(spread / (count - 1) / count) if count > 1 else 0.0
    metrics = {name: {"name": name, "value": value} for name, value in (("mean", mean), ("stderr", error))}
    return {
        "total_samples": len(samples),
        "completed_samples": count,
        "scores": [{"name": SCORER, "scorer": SCORER, "scored_samples": count, "metrics": metrics}],
    }


def _message(message: Message, model: str) -> dict[str, Any]:
    """A message of the chat-completions API in Inspect's format."""
    converted: dict[str, Any] = {"role": message["role"], "content": message.get("content") or ""}
    if message["role"] == "tool":
        converted["tool_call_id"] = message["tool_call_id"]
    if message["role"] == "assistant":
        converted |= {"source": "generate", "model": model}
        calls = [_call(call) for call in message.get("tool_calls", ())]
        if calls:
            converted["tool_calls"] = calls
    return converted


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    converted = {"id": call["id"], "function": function["name"], "type": "function"}
    try:
        arguments = json.loads(function["arguments"] or "{}")
        if isinstance(arguments, dict):
            json.dumps(arguments, allow_nan=False)  # Inspect reads neither NaN nor infinity
            return {**converted, "arguments": arguments}
        problem = "the arguments are not an object"
    except (ValueError, RecursionError) as error:
        problem = str(error)
    return {**converted, "arguments": {"text": function["arguments"]}, "parse_error": problem}


def _choices(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    last = next((one for one in reversed(messages) if one["role"] == "assistant"), None)
    return (
        [{"message": last, "stop_reason": "tool_calls" if "tool_calls" in last else "stop"}] if last else []
    )


def _model_usage(model: str, episodes: Iterable[ExportedEpisode]) -> dict[str, Any]:
    usages = [episode.usage for episode in episodes if episode.usage is not None]
    if not usages:
        return {}
    total = sum(usages, Usage())
    usage = {
        "input_tokens": total.prompt,
        "output_tokens": total.completion,
        "total_tokens": total.tokens,
    }
    return {model: usage if total.money is None else {**usage, "total_cost": total.money}}


def _started(episode: ExportedEpisode) -> float:
    """When the episode started, in seconds since 1970, by the record's name or else by its file."""
    directory = episode.record.directory
    match = _STAMP.match(directory.name)
    if match is None:
        return (directory / RECORD_FILE).stat().st_mtime
    stamp = time.strptime(match.group(1), "%Y%m%d-%H%M%S")
    return datetime.datetime(*stamp[:6], tzinfo=datetime.UTC).timestamp()


def _seconds(episode: ExportedEpisode) -> float:
    footer = episode.record.footer
    if footer is not None and footer.seconds is not None:
        return footer.seconds
    return sum(row.seconds for row in episode.record.steps)


def _time(seconds: float) -> str:
    """A moment as ISO 8601; a record of a stranger may name one outside of the calendar."""
    within = min(max(0.0, seconds), _LAST_MOMENT)
    return datetime.datetime.fromtimestamp(int(within), datetime.UTC).isoformat()


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")
