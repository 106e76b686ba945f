"""Finding files in raw data at any depth, because people unpack archives in different ways."""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from mlrcbench.errors import DataError

MADE = ".made"  # folder in raw data in which a conversion may keep files that it should not make twice


def listing(folder: Path) -> list[str]:
    """Relative paths of all files below a folder, sorted; hidden ones are left out."""
    paths = []
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inner = os.path.relpath(base, folder)
        paths += [os.path.normpath(f"{inner}/{name}") for name in sorted(files) if not name.startswith(".")]
    return paths


def matches(paths: Iterable[str], pattern: str) -> list[str]:
    """The paths that end in a pattern.

    Args:
        paths: Relative paths.
        pattern: A glob over the last parts of a path; `a|b` means either.
    """
    kinds = pattern.split("|")
    return [path for path in paths if any(fnmatch.fnmatchcase(f"/{path}", f"*/{kind}") for kind in kinds)]


def missing(folder: Path, layout: Iterable[str]) -> list[str]:
    """The patterns of a layout that no file of a folder matches."""
    paths = listing(folder)
    return [pattern for pattern in layout if not matches(paths, pattern)]


def find(folder: Path, pattern: str) -> Path:
    """The only file that matches a pattern.

    Raises:
        DataError: No file matches, or several do.
    """
    paths = matches(listing(folder), pattern)
    if len(paths) != 1:
        first = ", ".join(paths[:5]) or "none"
        raise DataError(f"{folder} must hold exactly one file {pattern}; it holds {first}")
    return folder / paths[0]


def find_all(folder: Path, pattern: str) -> dict[str, Path]:
    """All files that match a pattern, by their names without suffix.

    Raises:
        DataError: Two of them have the same name.
    """
    files: dict[str, Path] = {}
    for path in matches(listing(folder), pattern):
        name = Path(path).stem
        if name in files:
            raise DataError(f"{folder} holds {name} twice: {files[name]} and {path}; remove one")
        files[name] = folder / path
    return files


def link(source: Path, target: Path) -> None:
    """Link a file that everybody may read where the disk can do so; otherwise copy it.

    The files of an instance must be readable for the user that commands run as, but the mode of the
    user's own file is not changed.
    """
    original = source.resolve()
    try:
        if original.stat().st_mode & 0o444 != 0o444:
            raise PermissionError
        os.link(original, target)
    except OSError:
        shutil.copyfile(original, target)
        target.chmod(0o444)
