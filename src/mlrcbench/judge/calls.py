"""Calls to models, each made and paid once: kept in a file by the digest of what was asked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlrcbench.files import write_all
from mlrcbench.llm import Endpoint, Reply, Usage


class Calls:
    """A file of calls, one JSON line each; may be shared by threads, not by processes.

    A line that a crash tore is ignored, and its call made again.

    Args:
        path: Of the file; made, or gone on with.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._file = path.open("a+b", buffering=0)
        self._file.seek(0)
        text = self._file.read()
        if text and not text.endswith(b"\n"):
            write_all(self._file.fileno(), b"\n")
        self._known = dict(filter(None, map(_read, text.splitlines())))
        self.spent_now = Usage()

    @property
    def spent(self) -> Usage:
        """What all calls of the file have used, those of earlier days included."""
        return sum((Usage(**entry["usage"]) for entry in self._known.values()), Usage())

    def ask(self, model: Endpoint, messages: Sequence[dict[str, Any]], number: str) -> str:
        """What a model says.

        Args:
            model: Whom to ask.
            messages: What to ask.
            number: Tells apart calls that ask the same, such as samples.

        Raises:
            EndpointError: There is no answer; nothing is kept of it.
        """
        asked = json.dumps([model.model, list(messages), number], sort_keys=True)
        digest = hashlib.sha256(asked.encode()).hexdigest()
        with self._lock:
            turn = self._turns.setdefault(digest, threading.Lock())
        with turn:  # so that two threads do not pay for the same question
            if digest not in self._known:
                self._keep(digest, model.model, model.complete(messages))
        text: str = self._known[digest]["text"]
        return text

    def _keep(self, digest: str, model: str, reply: Reply) -> None:
        usage = dataclasses.asdict(reply.usage)
        entry = {"digest": digest, "model": model, "text": reply.text, "usage": usage}
        with self._lock:
            write_all(self._file.fileno(), json.dumps(entry).encode("ascii") + b"\n")
            self._known[digest] = entry
            self.spent_now = self.spent_now + reply.usage

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _read(line: bytes) -> tuple[str, dict[str, Any]] | None:
    try:
        entry = json.loads(line)
        Usage(**entry["usage"])
        return str(entry["digest"]), {**entry, "text": str(entry["text"])}
    except (ValueError, TypeError, KeyError):
        return None
