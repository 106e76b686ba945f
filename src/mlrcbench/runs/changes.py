"""What an agent changed in the starter, for people and models to read."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from mlrcbench.files import load_tree, walk
from mlrcbench.record import Record
from mlrcbench.registry import get_competition

_FILE_BYTES = 200_000


def changes(record: Record) -> str:
    """The last scored workspace against the starter, as a unified diff; of any length."""
    kept = [record.directory / entry["folder"] / "workspace" for entry in record.evaluations]
    folders = [folder for folder in kept if folder.is_dir()]
    if not folders:
        return ""
    try:
        competition = get_competition(record.header["competition"])
    except Exception as error:  # a competition that is not installed here
        return f"({error})"
    layers = competition.starter_of(record.header["tier"])
    starter = {path: (content or b"").decode() for path, _, content in load_tree(*layers)}
    return _diff(starter, folders[-1])


def cut(text: str, most: int) -> str:
    """Head and tail, with how much is left out between them."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half:,} characters left out ...]\n{text[-half:]}"


def _diff(starter: Mapping[str, str], folder: Path) -> str:
    parts = []
    for entry in walk(folder):
        if not entry.is_file or entry.path == "statement.md" or entry.info.st_size > _FILE_BYTES:
            continue
        new = (folder / entry.path).read_text("utf-8", "replace")
        old = starter.get(entry.path, "")
        if new != old:
            lines = difflib.unified_diff(
                old.splitlines(), new.splitlines(), f"starter/{entry.path}", entry.path, lineterm=""
            )
            parts.append("\n".join(lines))
    return "\n".join(parts)
