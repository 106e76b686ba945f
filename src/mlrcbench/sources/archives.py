"""Unpacking archives that may be hostile.

Members must be plain files and folders below one new folder, without absolute paths, `..`, links, devices
or encryption. Files, folders and bytes are counted as they are written, whatever the archive says about its
size. The folder gets its name when it is complete.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

from mlrcbench.errors import DataError
from mlrcbench.sandbox.folders import nearest_existing
from mlrcbench.sources.members import members
from mlrcbench.storage.trees import remove_tree

MAX_ENTRIES = 1_000_000
MAX_DEPTH = 64
_CHUNK = 1 << 20
_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")


def stem(name: str) -> str:
    """An archive's name without its suffix, which is the name of the unpacked folder."""
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    raise DataError(
        f"{name} is not an archive that can be unpacked; the known kinds are {', '.join(_SUFFIXES)}"
    )


def unpack(archive: Path, folder: Path, *, max_bytes: int, max_entries: int | None = None) -> None:
    """Unpack a zip or tar archive into a new folder.

    Args:
        archive: The archive, whose suffix says which kind it is.
        folder: The folder to make; one that exists is replaced.
        max_bytes: Largest size of all members together, unpacked.
        max_entries: Largest number of files and folders; a million by default.

    Raises:
        DataError: The archive is damaged, too large, or reaches out of its folder, or the disk is full.
    """
    scratch = folder.with_name(f".unpacking-{folder.name}")
    try:
        remove_tree(scratch)
        scratch.mkdir(parents=True)
        _fill(scratch, archive, max_bytes, MAX_ENTRIES if max_entries is None else max_entries)
        remove_tree(folder)
        os.rename(scratch, folder)
    except DataError:
        raise
    except FileExistsError as error:
        raise DataError(f"{archive.name} has the member {Path(error.filename).name!r} twice") from None
    except Exception as error:  # readers of archives raise errors of many classes on damaged ones
        reason = str(error) or type(error).__name__
        raise DataError(f"{archive.name} cannot be unpacked: {reason}") from error
    finally:
        remove_tree(scratch)


def _fill(scratch: Path, archive: Path, max_bytes: int, max_entries: int) -> None:
    """Write the files of an archive into a folder."""
    remaining, entries = max_bytes, max_entries
    for name, reader in members(archive):
        entries -= 1
        if reader is not None:
            parts = _plain(name, archive)
            entries -= _make_folders(scratch, parts[:-1])
            with scratch.joinpath(*parts).open("xb") as file:
                while chunk := reader.read(_CHUNK):
                    remaining -= len(chunk)
                    if remaining < 0:
                        raise DataError(f"{archive.name} unpacks to more than {max_bytes:,} bytes")
                    file.write(chunk)
        if entries < 0:
            raise DataError(f"{archive.name} has more than {max_entries:,} files and folders")


def _make_folders(folder: Path, names: tuple[str, ...]) -> int:
    """Make folders within each other; returns how many there were not yet."""
    made = 0
    for name in names:
        folder = folder / name
        if not folder.is_dir():
            folder.mkdir()
            made += 1
    return made


def _plain(name: str, archive: Path) -> tuple[str, ...]:
    """The parts of the name of a member that stays below its folder; other names raise an error."""
    path = PurePosixPath(name)
    shown = ascii(name[:200])
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        raise DataError(f"{archive.name}: the member {shown} reaches out of its folder; nothing was unpacked")
    if len(path.parts) > MAX_DEPTH:
        raise DataError(f"{archive.name}: the member {shown} has more than {MAX_DEPTH} folders around it")
    return path.parts


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise a `DataError` unless the disk of `folder` has `needed` bytes left, for `what`."""
    free = shutil.disk_usage(nearest_existing(folder)).free
    if free < needed:
        raise DataError(
            f"{what} needs {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB left; make room, or "
            "choose another disk with --cache"
        )
