"""Conversations as JSON lines, in the format that trainers of chat models read.

    {"messages": [...], "tools": [...], "reward": 0.93, "metadata": {...}}

There is one line per context in which a model spoke, so that each of its messages follows exactly what
the model had read; `metadata` says which of how many contexts it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlrcbench.runs.exports.exported import ExportedEpisode
from mlrcbench.score import Score

_SCORE = ("value", "error", "improvement", "improvement_error", "outcome", "reason", "details")


def export_chat(episodes: Iterable[ExportedEpisode], path: Path) -> int:
    """Write conversations.

    Args:
        episodes: The episodes to export.
        path: The file to write; it is replaced if it exists.

    Returns:
        How many lines were written.
    """
    lines = [to_bytes(line) for episode in episodes for line in _lines(episode)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return len(lines)


def to_bytes(value: Any) -> bytes:
    """JSON that every reader accepts: unpaired surrogates, which JSON can escape, become question marks."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def describe(episode: ExportedEpisode) -> dict[str, Any]:
    """An episode's description and results, as JSON types."""
    header, footer = episode.record.header, episode.record.footer
    keys = ("competition", "competition_version", "tier", "instance", "secret", "mlrcbench")
    usage = episode.usage
    return {
        "record": episode.record.directory.name,
        "agent": episode.agent,
        **{key: getattr(header, key) for key in keys},
        "isolation": header.isolation.tier,
        "steps": len(episode.record.steps),
        "ending": footer.ending if footer else "broken off",
        "dev": [_short(score) for score in episode.dev],
        "test": _short(episode.test) if episode.test else None,
        "tokens": {"prompt": usage.prompt, "completion": usage.completion} if usage else None,
        "money": usage.money if usage else None,
    }


def _lines(episode: ExportedEpisode) -> Iterable[dict[str, Any]]:
    metadata, count = describe(episode), len(episode.conversations)
    for number, conversation in enumerate(episode.conversations, 1):
        yield {
            "messages": conversation.messages,
            "tools": conversation.tools,
            "reward": episode.reward,
            "metadata": {**metadata, "context": number, "contexts": count},
        }


def _short(score: Score) -> dict[str, Any]:
    return {key: getattr(score, key) for key in _SCORE}
