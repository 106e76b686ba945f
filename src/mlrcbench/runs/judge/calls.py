"""Calls to models, each made and paid once: a file stores them by the digest of the question."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlrcbench.llm import Endpoint, Reply, Usage
from mlrcbench.storage.trees import write_all


class Calls:
    """A file of calls, one JSON line each; threads may share it, processes may not.

    A line that a crash tore is ignored, and its call is made again.

    Args:
        path: The file; a new one is made, an existing one is extended.
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
        """The usage of all calls in the file, earlier studies included."""
        return sum((Usage(**entry["usage"]) for entry in self._known.values()), Usage())

    def ask(self, model: Endpoint, messages: Sequence[dict[str, Any]], number: str) -> str:
        """A model's answer, from the file if it has it.

        Args:
            model: The model to ask.
            messages: The question.
            number: Distinguishes calls with the same question, such as samples.

        Raises:
            EndpointError: The model does not answer; nothing is stored.
        """
        question = json.dumps([model.model, list(messages), number], sort_keys=True)
        digest = hashlib.sha256(question.encode()).hexdigest()
        with self._lock:
            turn = self._turns.setdefault(digest, threading.Lock())
        with turn:  # so that two threads do not pay for the same question
            if digest not in self._known:
                self._store(digest, model.model, model.complete(messages))
        text: str = self._known[digest]["text"]
        return text

    def _store(self, digest: str, model: str, reply: Reply) -> None:
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
