"""A folder that is watched: which episodes it has, how they are, and what happened in one of them since.

It may be a run's directory, a folder of records, or one record. Everything in it may be somebody else's: it
is read as data, no link is followed, and what cannot be read is said rather than raised.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlrcbench.errors import ActionError, MlrcbenchError, RecordError, RunError
from mlrcbench.protocol.actions import name_of, parse
from mlrcbench.runs.newest_output import newest_output
from mlrcbench.runs.plan import EPISODES, read_assignments
from mlrcbench.runs.results import RECORDS, RESULT, read_result
from mlrcbench.storage.layout import RECORD_FILE
from mlrcbench.storage.record import (
    MAX_LINE_BYTES,
    MAX_RECORD_BYTES,
    EvaluationRecord,
    Footer,
    Header,
    Row,
    StepRecord,
    read_line,
)
from mlrcbench.storage.strict import is_real_folder, open_regular
from mlrcbench.text import cut

MAX_EPISODES = 5_000
_MAX_ROWS = 100  # of an episode, in one answer
_MAX_CHARS = 20_000  # of an action, or of a body
_TAIL_BYTES = 1 << 18
_SILENT_SECONDS = 3600  # after which an episode without an end may have been broken off


class Watched:
    """Episodes of a folder.

    Args:
        root: The directory of a run, a folder of records (one or two levels above them), or one record.

    Raises:
        RunError: The folder does not exist.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise RunError(f"{root} is not a folder; name a run, a record, or a folder of records")
        self.root = root
        self._cache: dict[Path, tuple[tuple[int, int], dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def episodes(self) -> list[dict[str, Any]]:
        """A row for each episode, as JSON types: its name, its state, its scores, and when it was written."""
        with self._lock:
            return [self._row(name, folder, record) for name, (folder, record) in self._places().items()]

    def episode(self, name: str, start: int) -> dict[str, Any]:
        """What is new in an episode.

        Args:
            name: The name, as `episodes` returns it.
            start: Position in the record's file from which lines are wanted, 0 at first.

        Returns:
            The "rows" since then, the "position" for the next call, whether there is "more" already, the
            "output" of what runs now, and the "trouble" that there was in reading; None for an unknown name.
        """
        with self._lock:
            record = self._places().get(name, (None, None))[1]
        answer: dict[str, Any] = {"rows": [], "position": start, "more": False, "output": "", "trouble": ""}
        if record is None:
            return {**answer, "trouble": "" if name in self._places() else "there is no such episode"}
        path = record / RECORD_FILE
        try:
            with open_regular(path, MAX_RECORD_BYTES) as file:
                file.seek(start)
                for line in itertools.islice(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), _MAX_ROWS):
                    if not line.endswith(b"\n"):
                        break  # it is being written
                    answer["position"] += len(line)
                    row = read_line(path, 0, line)
                    if row is not None:
                        answer["rows"].append(_shown(row))
                answer["more"] = len(answer["rows"]) == _MAX_ROWS
                written = os.fstat(file.fileno()).st_mtime
        except (OSError, ValueError, RecordError) as error:
            return {**answer, "trouble": str(error)}
        if not any(row["kind"] == "footer" for row in answer["rows"]):
            answer["output"] = newest_output(record, written)
        return answer

    def _places(self) -> dict[str, tuple[Path | None, Path | None]]:
        """Name -> the episode's folder in a run, if it is in one, and its newest record, if it has one."""
        if (self.root / "run.json").is_file():
            with contextlib.suppress(MlrcbenchError):
                names = itertools.islice((one.name for one in read_assignments(self.root)), MAX_EPISODES)
                return {name: self._in_run(name) for name in names}
        if (self.root / RECORD_FILE).is_file():
            return {self.root.resolve().name: (None, self.root)}
        files = itertools.chain(self.root.glob(f"*/{RECORD_FILE}"), self.root.glob(f"*/*/{RECORD_FILE}"))
        records = [file.parent for file in itertools.islice(files, 10 * MAX_EPISODES)]
        records = sorted(records, key=lambda record: record.name, reverse=True)[:MAX_EPISODES]
        return {record.relative_to(self.root).as_posix(): (None, record) for record in records}

    def _in_run(self, name: str) -> tuple[Path, Path | None]:
        folder = self.root / EPISODES / name
        parts = (EPISODES, name, RECORDS)
        records = sorted((folder / RECORDS).glob("*")) if is_real_folder(self.root, *parts) else []
        return folder, records[-1] if records else None

    def _row(self, name: str, folder: Path | None, record: Path | None) -> dict[str, Any]:
        row: dict[str, Any] = {"name": name, "state": "waiting", "steps": 0, "dev": None, "test": None}
        row |= {"tokens": None, "money": None, "updated": None}
        if record is not None:
            row |= self._cached(record / RECORD_FILE, lambda: _summary(record))
        if folder is not None and (folder / RESULT).is_file():
            row |= self._cached(folder / RESULT, lambda: _result(folder))
        if row["state"] == "playing" and row["updated"] > _SILENT_SECONDS:
            row["state"] = "playing, or broken off"
        return row

    def _cached(self, path: Path, read: Any) -> dict[str, Any]:
        """What `read` returns, read again only if the file has changed."""
        try:
            info = path.lstat()
        except OSError:
            return {}
        key = (info.st_mtime_ns, info.st_size)
        if path not in self._cache or self._cache[path][0] != key:
            self._cache[path] = key, read()
        return {**self._cache[path][1], "updated": round(time.time() - info.st_mtime)}


def _summary(record: Path) -> dict[str, Any]:
    """The state of an episode, from the end of its record."""
    summary: dict[str, Any] = {"state": "playing"}
    path = record / RECORD_FILE
    try:
        with open_regular(path, MAX_RECORD_BYTES) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).split(b"\n")
    except (OSError, ValueError) as error:
        return {"state": f"cannot be read: {error}"}
    for line in lines:
        with contextlib.suppress(RecordError):  # the first one is a part of a line
            row = read_line(path, 0, line + b"\n")
            if isinstance(row, StepRecord):
                summary["steps"] = row.step
            elif isinstance(row, EvaluationRecord):
                summary[row.split] = row.score.improvement
            elif isinstance(row, Footer):
                summary["state"] = row.ending
    return summary


def _result(folder: Path) -> dict[str, Any]:
    """The state of an episode of a run that has a result."""
    result = read_result(folder)
    if result is None:
        return {"state": "its result cannot be read"}
    usage: Mapping[str, Any] = result.usage or {}
    tokens = usage["prompt"] + usage["completion"] if usage else None
    state = result.outcome if result.outcome == "played" else f"{result.outcome}: {result.reason}"
    return {
        "state": state,
        "steps": result.steps,
        "test": result.improvement,
        "tokens": tokens,
        "money": usage.get("money"),
    }


def _action(action: Any) -> tuple[str, str, dict[str, Any]]:
    """An action's name, what it is about, and its other arguments."""
    try:
        parsed = parse(action)
    except ActionError:
        return "not an action", "", {"text": action if isinstance(action, str) else json.dumps(action)}
    arguments = {key: value for key, value in dataclasses.asdict(parsed).items() if value is not None}
    subject = arguments.pop("command", None) or arguments.pop("path", "")
    return name_of(parsed), subject, arguments


def _shown(row: Row) -> dict[str, Any]:
    """A row as the page shows it."""
    if isinstance(row, Header):
        place = f"{row.competition}, tier {row.tier}, instance {row.instance}"
        text = f"{place}; sandbox {row.isolation.tier}; mlrcbench {row.mlrcbench}"
        return {"kind": "header", "text": text}
    if isinstance(row, StepRecord):
        name, subject, rest = _action(row.action)
        lines = [f"{key}: {value}" for key, value in rest.items()]
        return {
            "kind": "step",
            "title": f"{row.step}. {name} {cut(subject, 300)}".rstrip(),
            "action": cut("\n".join(lines), _MAX_CHARS),
            "body": cut(row.body, _MAX_CHARS),
            "status": row.status,
            "error": bool(row.error),
            "seconds": round(row.seconds, 2),
        }
    if isinstance(row, EvaluationRecord):
        score = row.score
        figures = ("value", "improvement", "improvement_error", "outcome", "reason", "rung")
        return {"kind": "evaluation", "split": row.split, **{name: getattr(score, name) for name in figures}}
    return {"kind": "footer", "text": row.ending}
