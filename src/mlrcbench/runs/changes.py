"""What an agent changed in the starter, as a diff for people and models to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlrcbench.catalog.registry import get_competition
from mlrcbench.errors import MlrcbenchError
from mlrcbench.storage.layout import EVALUATED_WORKSPACE, STATEMENT
from mlrcbench.storage.record import Header, Record, kept_folder
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
        return _diff(starter_texts(record.header), folders[-1])
    except MlrcbenchError as error:  # no such competition or tier here, or a record that no episode wrote
        return f"({error})"


def starter_texts(header: Header) -> dict[str, str]:
    """The text files that an episode began with, by relative path.

    Raises:
        RegistryError: The competition or the tier does not exist here.
    """
    layers = get_competition(header.competition).starter_of(header.tier)
    return {path: (content or b"").decode("utf-8", "replace") for path, _, content in load_tree(*layers)}


def kept_texts(folder: Path, suffix: str = "") -> Iterator[tuple[str, str]]:
    """Relative path and text of each file of a kept workspace that is not very long.

    Args:
        folder: A folder of a record, which may be somebody else's.
        suffix: How the names of the files end.

    Raises:
        WorkspaceError: The folder exceeds the bounds of a workspace.
    """
    for entry in walk(folder):
        short = entry.is_file and entry.info.st_size <= _FILE_BYTES
        if not short or entry.path == STATEMENT or not entry.path.endswith(suffix):
            continue
        try:
            with open_regular(folder / entry.path, _FILE_BYTES) as file:
                text = file.read().decode("utf-8", "replace")
        except (OSError, ValueError):
            continue
        yield entry.path, text


def _diff(starter: Mapping[str, str], folder: Path) -> str:
    """The differences, file by file, up to a length that no method has."""
    parts: list[str] = []
    for path, new in kept_texts(folder):
        if sum(map(len, parts)) > _TOTAL_CHARS:
            break
        old = starter.get(path, "")
        if new != old:
            parts.append(_file_diff(path, old.splitlines(), new.splitlines()))
    return "\n".join(parts)


def _file_diff(path: str, old: list[str], new: list[str]) -> str:
    if max(len(old), len(new)) > _LINES:
        return f"--- starter/{path}\n+++ {path}\n(more than {_LINES:,} lines, which are not compared)"
    return "\n".join(difflib.unified_diff(old, new, f"starter/{path}", path, lineterm=""))
