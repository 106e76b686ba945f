"""Record: what is left of an episode when all objects are gone.

A directory:

    record.jsonl            a header, then one line per step and per evaluation, then a footer
    outputs/                outputs that were too long to show
    evaluations/001-dev/    workspace/ (the files that were scored), artefacts/, output.txt

The record of an episode that began from a snapshot holds the lines up to that step as its own,
so that it can be replayed like any other; its header names the record they come from, as
`"parent"`.

Each line of `record.jsonl` is a JSON object with a `"kind"`: "header", "step", "evaluation" or
"footer". The header holds what the agent read at the start. Lines are written one by one, so a
crash costs at most the one that was being written; a torn last line is ignored by the reader.
Later versions may add kinds and keys.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlrcbench import actions
from mlrcbench.errors import RecordError
from mlrcbench.files import write_all

VERSION = 1
FILE = "record.jsonl"
OUTPUTS = "outputs"
EVALUATIONS = "evaluations"


class Recorder:
    """Writes a record; one per episode. The first line must be the header."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        (directory / OUTPUTS).mkdir()
        self.directory = directory
        self._file = (directory / FILE).open("x+b", buffering=0)
        self._closed = False

    def write(self, kind: str, entry: Mapping[str, Any]) -> None:
        """Append one line, in a single write."""
        line = json.dumps({"kind": kind, **entry}, ensure_ascii=True, allow_nan=False)
        write_all(self._file.fileno(), f"{line}\n".encode("ascii"))

    def write_lines(self, lines: bytes) -> None:
        """Append lines of another record, up to the same step."""
        write_all(self._file.fileno(), lines)

    def lines_from(self, position: int) -> bytes:
        """The lines from a position in the file on."""
        return os.pread(self._file.fileno(), self.position - position, position)

    @property
    def position(self) -> int:
        """Where the next line begins in the file."""
        return self._file.tell()

    def close(self, footer: Mapping[str, Any]) -> None:
        """Write the footer; further calls do nothing."""
        if not self._closed:
            self._closed = True
            self.write("footer", footer)
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close({"ending": "closed"})


@dataclass(frozen=True, slots=True)
class Record:
    """A record as read back.

    Attributes:
        directory: Where it lies.
        header: What the episode was: competition, versions, instance, budget, isolation.
        steps: One entry per step: action, body of the observation, reward, and so on.
        evaluations: One entry per evaluation: split, score, after which step, its folder.
        footer: How it ended; None if it did not, or not cleanly.
    """

    directory: Path
    header: dict[str, Any]
    steps: tuple[dict[str, Any], ...]
    evaluations: tuple[dict[str, Any], ...]
    footer: dict[str, Any] | None


def read_record(directory: Path) -> Record:
    """Read a record directory.

    Raises:
        RecordError: It is none, or of a version that this library does not know.
    """
    path = directory / FILE
    try:
        lines = path.read_text("ascii").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read: {error}; name a folder that holds one") from None
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            raise RecordError(f"{path}, line {number} is not JSON: {error}") from None
    if not entries or entries[0].get("kind") != "header":
        raise RecordError(f"{path} does not begin with a header")
    if entries[0]["version"] > VERSION:
        raise RecordError(f"{path} has version {entries[0]['version']}; this library reads up to {VERSION}")
    footers = _of(entries, "footer")
    return Record(
        directory,
        entries[0],
        tuple(_of(entries, "step")),
        tuple(_of(entries, "evaluation")),
        footers[0] if footers else None,
    )


def recordable(action: Any) -> Any:
    """An action as a record holds it: its JSON form, its text, or None for what is neither."""
    if isinstance(action, str):
        return action if len(action) <= actions.MAX_JSON_CHARS else {"characters": len(action)}
    if actions.is_action(action):
        return actions.to_json(action)
    try:
        return json.loads(json.dumps(action, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return None


def replayable(entry: Any) -> Any:
    """The action, or one that is answered alike, from what `recordable` made of it."""
    if isinstance(entry, dict) and entry.keys() == {"characters"}:
        return " " * entry["characters"]
    return entry


def new_directory(parent: Path) -> Path:
    """A path for a new record, sorted by time and never taken."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return parent / f"{stamp}-{os.getpid()}-{secrets.token_hex(4)}"


def _of(entries: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [entry for entry in entries if entry.get("kind") == kind]
