"""The modes and times of an instance's files, and how they are put back.

Files of an instance are read-only, but where commands run as the user who owns the cache, `chmod` and `touch`
reach them. What one episode does to them must not reach another one, so they are put back before every
command and every evaluation, for the price of one `lstat` a file.
"""

from __future__ import annotations

import functools
import json
import os
import stat
from pathlib import Path, PurePosixPath

from mlrcbench.errors import DataError
from mlrcbench.sandbox.folders import home

MANIFEST = "manifest.json"
_TIME_NS = 1_000_000_000 * 10**9  # of every change, as files of an instance tell nothing by their times


def seal_entry(path: Path, mode: int, *, timed: bool) -> None:
    """Give a file or a folder its mode and its time, if they differ and it belongs to this user.

    A file with several names keeps its mode as far as it can be read, and its time: one of the names may
    be the user's own file.

    Args:
        path: The file or folder.
        mode: Its permission bits.
        timed: Whether its time counts.
    """
    info = os.lstat(path)
    if info.st_uid != os.geteuid():
        return
    present = stat.S_IMODE(info.st_mode)
    if stat.S_ISREG(info.st_mode) and info.st_nlink > 1:
        mode, timed = present | stat.S_IRUSR, False
    if present != mode:
        os.chmod(path, mode)
    if timed and info.st_mtime_ns != _TIME_NS:
        os.utime(path, ns=(_TIME_NS, _TIME_NS))


def sealed_mode(path: str, *, is_folder: bool) -> int:
    """Permission bits of an entry of an instance.

    Public files and a split's inputs can be read by any user who knows their path, as the sandbox's
    user does. Answers, and the manifest with their digests, are for the owner only; the folders above
    cannot be listed.

    Args:
        path: Path relative to the instance; "." for its folder.
        is_folder: Whether it is a folder.
    """
    if not is_folder:
        return 0o600 if path == MANIFEST else 0o444
    parts = PurePosixPath(path).parts
    if parts[:1] == ("private",) and len(parts) == 3 and parts[2] == "answers":
        return 0o700
    return 0o711 if not parts or (parts[0] == "private" and len(parts) < 3) else 0o755


def reopen(root: Path) -> None:
    """Make an instance's folder and its manifest accessible again, if they exist."""
    top = home()
    above = [folder for folder in reversed(root.parents) if folder.is_relative_to(top)]
    for path, mode in (*((folder, 0o711) for folder in above), (root, sealed_mode(".", is_folder=True))):
        if not path.exists():
            return
        if path == root or not os.access(path, os.X_OK):
            seal_entry(path, mode, timed=False)
    if (root / MANIFEST).exists():
        seal_entry(root / MANIFEST, sealed_mode(MANIFEST, is_folder=False), timed=False)


def repair(root: Path, *parts: str, is_open: bool = False) -> None:
    """Put back the modes and times of an instance's files, and of the folders above them.

    Args:
        root: The instance's folder.
        parts: Folders of the instance; everything if none is given.
        is_open: Whether `reopen` has just been called for it.

    Raises:
        DataError: A file is missing, or its mode cannot be put back.
    """
    try:
        if not is_open:
            reopen(root)
        for path, mode, timed in _sealed(root, parts):
            seal_entry(root / path, mode, timed=timed)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{root} is damaged ({error}); delete it, and it will be built again") from error


@functools.lru_cache(maxsize=1024)
def _sealed(root: Path, parts: tuple[str, ...]) -> tuple[tuple[str, int, bool], ...]:
    """Path, mode and whether times count, of the entries below some folders; a folder before its content."""
    names = json.loads((root / MANIFEST).read_text("utf-8"))["files"]
    files = [name for name in names if not parts or any(name.startswith(f"{part}/") for part in parts)]
    folders = {str(folder) for name in [*files, *(f"{part}/-" for part in parts)] for folder in _above(name)}
    entries = [*((name, True) for name in folders - {"."}), *((name, False) for name in files)]
    return tuple(
        (name, sealed_mode(name, is_folder=is_folder), "answers" not in name and name != "private")
        for name, is_folder in sorted(entries)
    )


def _above(name: str) -> tuple[PurePosixPath, ...]:
    return tuple(PurePosixPath(name).parents)
