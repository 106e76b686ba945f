"""Logs of Inspect (inspect.aisi.org.uk), which its viewer and its analyses read.

One file per competition and agent, in Inspect's JSON format, version 2: a sample per episode, whose
id is the instance and whose epoch counts its episodes. The score is the relative improvement on test,
0 where the submission was invalid; the rest stands in its metadata. Inspect itself is not needed.
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

from mlrcbench.exports.chat import describe, to_bytes
from mlrcbench.exports.episodes import Episode, Message
from mlrcbench.llm import Usage
from mlrcbench.record import FILE

SCORER = "improvement"
_STAMP = re.compile(r"(\d{8}-\d{6})-")


def export_inspect(episodes: Iterable[Episode], folder: Path) -> list[Path]:
    """Write logs.

    Args:
        episodes: Of which.
        folder: For them; made if need be.

    Returns:
        The files, one per competition, tier and agent.
    """
    groups: dict[tuple[str, str, str], list[Episode]] = {}
    for episode in episodes:
        header = episode.record.header
        groups.setdefault((header["competition"], header["tier"], episode.agent), []).append(episode)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for found in groups.values():
        log = _log(found)
        stamp = log["eval"]["created"].replace(":", "-")
        path = folder / f"{stamp}_{_slug(log['eval']['task'])}_{log['eval']['eval_id']}.json"
        path.write_bytes(to_bytes(log))
        written.append(path)
    return written


def _log(episodes: Sequence[Episode]) -> dict[str, Any]:
    """One log, of episodes of one competition, tier and agent."""
    header = episodes[0].record.header
    model = f"mlrcbench/{episodes[0].agent or 'unknown'}"
    epochs: dict[int, int] = {}
    samples = []
    for episode in sorted(episodes, key=_started):
        instance = episode.record.header["instance"]
        epochs[instance] = epochs.get(instance, 0) + 1
        samples.append(_sample(episode, model, epochs[instance]))
    task = f"mlrcbench/{header['competition']}"
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
            "task_id": f"{header['competition']}@{header['competition_version']}",
            "task_version": header["competition_version"],
            "task_args": {"tier": header["tier"]},
            "dataset": {
                "name": task,
                "samples": len(epochs),
                "sample_ids": sorted(epochs),
                "shuffled": False,
            },
            "model": model,
            "config": {"epochs": max(epochs.values())},
            "packages": {"mlrcbench": header["mlrcbench"]},
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


def _sample(episode: Episode, model: str, epoch: int) -> dict[str, Any]:
    record, test = episode.record, episode.test
    told = describe(episode)
    messages = [_message(message, model) for message in episode.whole]
    sample = {
        "id": record.header["instance"],
        "epoch": epoch,
        "input": record.header["statement"],
        "target": "",
        "messages": messages,
        "output": {"model": model, "choices": _choices(messages)},
        "scores": None,
        "metadata": {**told, "reward": episode.reward},
        "model_usage": _model_usage(model, [episode]),
        "started_at": _time(_started(episode)),
        "completed_at": _time(_started(episode) + _seconds(episode)),
        "total_time": _seconds(episode),
        "uuid": hashlib.sha256(record.directory.name.encode()).hexdigest()[:22],
    }
    if test is not None:
        sample["scores"] = {
            SCORER: {
                "value": float(test["improvement"] or 0.0),
                "explanation": test["reason"] or f"{test['value']:.6g} on test",
                "metadata": told["test"],
            }
        }
    else:
        words = f"no final score: {told['ending']}"
        sample["error"] = {"message": words, "traceback": words, "traceback_ansi": words}
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
    """A message of the chat-completions API as Inspect has it."""
    found: dict[str, Any] = {"role": message["role"], "content": message.get("content") or ""}
    if message["role"] == "tool":
        found["tool_call_id"] = message["tool_call_id"]
    if message["role"] == "assistant":
        found |= {"source": "generate", "model": model}
        calls = [_call(call) for call in message.get("tool_calls", ())]
        if calls:
            found["tool_calls"] = calls
    return found


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    found = {"id": call["id"], "function": function["name"], "type": "function"}
    try:
        arguments = json.loads(function["arguments"] or "{}")
        if isinstance(arguments, dict):
            json.dumps(arguments, allow_nan=False)  # Inspect reads no NaN and no infinity
            return {**found, "arguments": arguments}
        words = "the arguments are no object"
    except (ValueError, RecursionError) as error:
        words = str(error)
    return {**found, "arguments": {"text": function["arguments"]}, "parse_error": words}


def _choices(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    last = next((one for one in reversed(messages) if one["role"] == "assistant"), None)
    return (
        [{"message": last, "stop_reason": "tool_calls" if "tool_calls" in last else "stop"}] if last else []
    )


def _model_usage(model: str, episodes: Iterable[Episode]) -> dict[str, Any]:
    used = [episode.usage for episode in episodes if episode.usage is not None]
    if not used:
        return {}
    total = sum(used, Usage())
    usage = {
        "input_tokens": total.prompt,
        "output_tokens": total.completion,
        "total_tokens": total.tokens,
    }
    return {model: usage if total.money is None else {**usage, "total_cost": total.money}}


def _started(episode: Episode) -> float:
    """Seconds since 1970; told by the record's name, or else by its file."""
    directory = episode.record.directory
    found = _STAMP.match(directory.name)
    if found is None:
        return (directory / FILE).stat().st_mtime
    stamp = time.strptime(found.group(1), "%Y%m%d-%H%M%S")
    return datetime.datetime(*stamp[:6], tzinfo=datetime.UTC).timestamp()


def _seconds(episode: Episode) -> float:
    footer = episode.record.footer or {}
    steps = sum(entry["seconds"] for entry in episode.record.steps)
    return float(footer.get("seconds", steps))


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).isoformat()


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")
