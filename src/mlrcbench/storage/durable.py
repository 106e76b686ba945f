"""Files that are whole whenever they exist, also after a crash or a power cut.

A file is written under another name, brought to the disk, and then renamed; the folder that names it is
brought to the disk as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from mlrcbench.storage.trees import write_all


def replace_text(path: Path, text: str) -> None:
    """Write a text file in one step; see `replace_bytes`. Unpaired surrogates become question marks."""
    replace_bytes(path, text.encode("utf-8", "replace"))


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file in one step: a reader finds the old content or the new, even after a power cut.

    Raises:
        OSError: The file cannot be written; an old one stays as it was.
    """
    with scratch_beside(path) as scratch:
        with scratch.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    sync_folder(path.parent)


def append(descriptor: int, content: bytes) -> None:
    """Append to an open file that has a name; if that fails, the file stays as it was.

    Raises:
        OSError: The content cannot be written, or the file was deleted.
    """
    end = os.lseek(descriptor, 0, os.SEEK_CUR)
    try:
        write_all(descriptor, content)
        if os.fstat(descriptor).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "it was deleted while it was being written")
    except OSError:
        os.ftruncate(descriptor, end)
        os.lseek(descriptor, end, os.SEEK_SET)
        raise


@contextlib.contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """A new name in the folder of a path; what still has this name at the end is removed."""
    scratch = path.parent / f".{path.name[:100]}-{secrets.token_hex(8)}"
    try:
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Bring a file that other code has written to the disk, and the folder that names it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # some file systems cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
