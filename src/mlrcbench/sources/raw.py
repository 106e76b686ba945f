"""Finding files in raw data, however deep they lie: people unpack archives in different ways."""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from mlrcbench.errors import DataError

MADE = ".made"  # folder below raw data in which a conversion may keep what it should not have to make twice


def listing(folder: Path) -> list[str]:
    """Relative paths of all files below a folder, sorted; hidden ones are left out."""
    found = []
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inner = os.path.relpath(base, folder)
        found += [os.path.normpath(f"{inner}/{name}") for name in sorted(files) if not name.startswith(".")]
    return found


def matches(paths: Iterable[str], pattern: str) -> list[str]:
    """The paths that end in a pattern.

    Args:
        paths: Relative paths.
        pattern: A glob over the last parts of a path; `a|b` is either.
    """
    kinds = pattern.split("|")
    return [path for path in paths if any(fnmatch.fnmatchcase(f"/{path}", f"*/{kind}") for kind in kinds)]


def missing(folder: Path, layout: Iterable[str]) -> list[str]:
    """The patterns of a layout that no file of a folder fits."""
    paths = listing(folder)
    return [pattern for pattern in layout if not matches(paths, pattern)]


def find(folder: Path, pattern: str) -> Path:
    """The one file that fits a pattern.

    Raises:
        DataError: None does, or several.
    """
    found = matches(listing(folder), pattern)
    if len(found) != 1:
        words = ", ".join(found[:5]) or "none"
        raise DataError(f"{folder} must hold exactly one file {pattern}; it holds {words}")
    return folder / found[0]


def find_all(folder: Path, pattern: str) -> dict[str, Path]:
    """All files that fit a pattern, by their names without suffix.

    Raises:
        DataError: Two have the same name.
    """
    found: dict[str, Path] = {}
    for path in matches(listing(folder), pattern):
        name = Path(path).stem
        if name in found:
            raise DataError(f"{folder} holds {name} twice: {found[name]} and {path}; remove one")
        found[name] = folder / path
    return found


def link(source: Path, target: Path) -> None:
    """Give a file that everybody may read a second name where the disk can, else copy it.

    An instance's files must be readable for the user that commands run as, and the mode of a file that is
    the user's own is not changed.
    """
    found = source.resolve()
    try:
        if found.stat().st_mode & 0o444 != 0o444:
            raise PermissionError
        os.link(found, target)
    except OSError:
        shutil.copyfile(found, target)
        target.chmod(0o444)
