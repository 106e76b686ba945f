"""Unpacking archives that somebody else made.

Members are plain files and folders below one new folder: no absolute path, no way up, no link, no
device, no encryption. Bytes are counted as they are written, whatever the archive says about itself. The
folder takes its name when it is complete.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from mlrcbench.errors import DataError
from mlrcbench.files import remove_tree

MAX_ENTRIES = 2_000_000
_CHUNK = 1 << 20
_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")


def stem(name: str) -> str:
    """The name of an archive without its suffix, which is the name of its folder."""
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    raise DataError(f"{name} is no archive that can be unpacked; known are {', '.join(_SUFFIXES)}")


def unpack(archive: Path, folder: Path, *, max_bytes: int) -> None:
    """Unpack a zip or tar archive into a new folder.

    Args:
        archive: Its suffix says which kind it is.
        folder: Replaced if it exists.
        max_bytes: Of all members together, unpacked.

    Raises:
        DataError: The archive is damaged, too large, or reaches out of its folder.
    """
    scratch = folder.with_name(f".unpacking-{folder.name}")
    remove_tree(scratch)
    scratch.mkdir(parents=True)
    left = max_bytes
    try:
        for number, (name, reader) in enumerate(_members(archive)):
            if number >= MAX_ENTRIES:
                raise DataError(f"{archive.name} has more than {MAX_ENTRIES:,} entries")
            target = scratch / _plain(name, archive)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                while chunk := reader.read(_CHUNK):
                    left -= len(chunk)
                    if left < 0:
                        raise DataError(f"{archive.name} unpacks to more than {max_bytes:,} bytes")
                    file.write(chunk)
        remove_tree(folder)
        os.rename(scratch, folder)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{archive.name} cannot be unpacked: {error}") from error
    except FileExistsError as error:
        raise DataError(f"{archive.name} has the member {Path(error.filename).name!r} twice") from None
    finally:
        remove_tree(scratch)


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each file of an archive, one after the other."""
    if archive.name.endswith(".zip"):
        with zipfile.ZipFile(archive) as box:
            for info in box.infolist():
                mode = info.external_attr >> 16
                if mode and (mode & 0o170000) not in (0, 0o100000, 0o040000):
                    raise DataError(f"{archive.name}: {info.filename!r} is neither a file nor a folder")
                if not info.is_dir():
                    with box.open(info) as reader:
                        yield info.filename, reader
        return
    with tarfile.open(archive, "r:*") as tape:
        for member in tape:
            if member.isdir():
                continue
            if not member.isreg():
                raise DataError(f"{archive.name}: {member.name!r} is neither a file nor a folder")
            content = tape.extractfile(member)
            assert content is not None
            yield member.name, content


def _plain(name: str, archive: Path) -> str:
    """The name of a member, if it stays below its folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        raise DataError(
            f"{archive.name}: the member {name!r} reaches out of its folder; nothing was unpacked"
        )
    return str(path)


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise DataError unless the disk of `folder` has `needed` bytes left."""
    free = shutil.disk_usage(next(path for path in [folder, *folder.parents] if path.exists())).free
    if free < needed:
        raise DataError(
            f"{what} needs {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB left; make room, or "
            "choose another disk with --cache"
        )
