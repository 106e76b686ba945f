"""What an agent changed in the starter, as a diff for people and models to read."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from mlrcbench.catalog.registry import get_competition
from mlrcbench.errors import MlrcbenchError, WorkspaceError
from mlrcbench.storage.layout import EVALUATED_WORKSPACE
from mlrcbench.storage.record import Record, kept_folder
from mlrcbench.storage.strict import open_regular
from mlrcbench.storage.trees import load_tree, walk

_FILE_BYTES = 200_000
_TOTAL_CHARS = 10_000_000
_LINES = 3_000


def changes(record: Record) -> str:
    """A unified diff, of any length, from the starter to the workspace that was scored last."""
    copies = (kept_folder(record, row, EVALUATED_WORKSPACE) for row in record.evaluations)
    folders = [folder for folder in copies if folder is not None]
    if not folders:
        return ""
    try:
        layers = get_competition(record.header.competition).starter_of(record.header.tier)
    except MlrcbenchError as error:  # a competition or a tier that does not exist here
        return f"({error})"
    starter = {path: (content or b"").decode() for path, _, content in load_tree(*layers)}
    try:
        return _diff(starter, folders[-1])
    except WorkspaceError as error:  # a record that no episode wrote
        return f"({error})"


def _diff(starter: Mapping[str, str], folder: Path) -> str:
    """The differences, file by file, up to a length that no method has."""
    parts: list[str] = []
    for entry in walk(folder):
        if not entry.is_file or entry.path == "statement.md" or entry.info.st_size > _FILE_BYTES:
            continue
        if sum(map(len, parts)) > _TOTAL_CHARS:
            break
        try:
            with open_regular(folder / entry.path, _FILE_BYTES) as file:
                new = file.read().decode("utf-8", "replace")
        except (OSError, ValueError):
            continue
        old = starter.get(entry.path, "")
        if new != old:
            parts.append(_file_diff(entry.path, old.splitlines(), new.splitlines()))
    return "\n".join(parts)


def _file_diff(path: str, old: list[str], new: list[str]) -> str:
    if max(len(old), len(new)) > _LINES:
        return f"--- starter/{path}\n+++ {path}\n(more than {_LINES:,} lines, which are not compared)"
    return "\n".join(difflib.unified_diff(old, new, f"starter/{path}", path, lineterm=""))
