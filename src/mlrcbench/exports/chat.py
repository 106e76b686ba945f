"""Conversations as JSON lines, in the form in which trainers of chat models read them.

    {"messages": [...], "tools": [...], "reward": 0.93, "metadata": {...}}

One line per context in which a model spoke, so that each of its messages stands behind exactly
what it had been shown; `metadata` says which of how many it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlrcbench.exports.episodes import Episode

_SCORE = ("value", "improvement", "outcome", "reason", "details")


def export_chat(episodes: Iterable[Episode], path: Path) -> int:
    """Write conversations.

    Args:
        episodes: Of which.
        path: A file; replaced if it exists.

    Returns:
        How many lines were written.
    """
    lines = [to_bytes(line) for episode in episodes for line in _lines(episode)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return len(lines)


def to_bytes(value: Any) -> bytes:
    """JSON that every reader takes: halves of surrogate pairs, which JSON can escape, are question marks."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def describe(episode: Episode) -> dict[str, Any]:
    """What an episode was and what came of it, as JSON types."""
    header, footer = episode.record.header, episode.record.footer
    keys = ("competition", "competition_version", "tier", "instance", "secret", "mlrcbench")
    usage = episode.usage
    return {
        "record": episode.record.directory.name,
        "agent": episode.agent,
        **{key: header[key] for key in keys},
        "isolation": header["isolation"].get("tier"),
        "steps": len(episode.record.steps),
        "ending": footer["ending"] if footer else "broken off",
        "dev": [_short(score) for score in episode.dev],
        "test": _short(episode.test) if episode.test else None,
        "tokens": {"prompt": usage.prompt, "completion": usage.completion} if usage else None,
        "money": usage.money if usage else None,
    }


def _lines(episode: Episode) -> Iterable[dict[str, Any]]:
    told, count = describe(episode), len(episode.conversations)
    for number, one in enumerate(episode.conversations, 1):
        yield {
            "messages": one.messages,
            "tools": one.tools,
            "reward": episode.reward,
            "metadata": {**told, "context": number, "contexts": count},
        }


def _short(score: dict[str, Any]) -> dict[str, Any]:
    return {key: score.get(key) for key in _SCORE}
