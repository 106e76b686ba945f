"""Trees of files that an agent made: walked, copied, hashed and removed within bounds.

A hostile tree may be deep, wide, sparse, full of links, pipes and sockets, and without
permissions. Nothing here recurses, follows a link, opens anything but a regular file, or
trusts a size it has not checked.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlrcbench.errors import WorkspaceError

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """Bounds on a tree.

    Attributes:
        entries: Files, folders and links.
        depth: Folders within folders.
        total_bytes: Sum of apparent sizes, so that a sparse file counts in full.
    """

    entries: int = 20_000
    depth: int = 64
    total_bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a tree: relative path, and `os.lstat` of it."""

    path: str
    info: os.stat_result

    @property
    def is_folder(self) -> bool:
        """A real folder, no link to one."""
        return stat.S_ISDIR(self.info.st_mode)

    @property
    def is_file(self) -> bool:
        """A regular file."""
        return stat.S_ISREG(self.info.st_mode)

    @property
    def is_link(self) -> bool:
        """A symbolic link, wherever it points."""
        return stat.S_ISLNK(self.info.st_mode)


def walk(
    root: Path, limits: TreeLimits | None = None, skip: Callable[[str], bool] | None = None
) -> Iterator[Entry]:
    """Every entry below `root`, a folder before its content; sorted, so always in one order.

    Args:
        root: A folder.
        limits: None: default bounds.
        skip: Relative paths that are left out, with everything below.

    Raises:
        WorkspaceError: The tree exceeds a limit.
    """
    bounds = limits or TreeLimits()
    count = total = 0
    pending = [""]
    while pending:
        base = pending.pop()
        folders = []
        for entry in _scan(root, base, bounds.entries):
            path = f"{base}{entry.name}"
            if skip is not None and skip(path):
                continue
            found = Entry(path, entry.stat(follow_symlinks=False))
            count += 1
            total += found.info.st_size if found.is_file else 0
            if count > bounds.entries or total > bounds.total_bytes:
                raise WorkspaceError(
                    f"there are more than {bounds.entries:,} files or {bounds.total_bytes:,} bytes; "
                    "remove what is not needed"
                )
            if found.is_folder:
                folders.append(f"{path}/")
            yield found
        if folders and base.count("/") >= bounds.depth:
            raise WorkspaceError(f"folders nest deeper than {bounds.depth}; flatten them")
        pending.extend(reversed(folders))


def copy_tree(
    source: Path, target: Path, limits: TreeLimits | None = None, skip: Callable[[str], bool] | None = None
) -> None:
    """Copy regular files, folders and link texts; whatever exists in `target` already stays.

    Pipes, sockets and devices are left out. Files are made by `copy_file_range`, which shares
    blocks where the file system can.

    Raises:
        WorkspaceError: The tree exceeds a limit.
    """
    target.mkdir(parents=True, exist_ok=True)
    for entry in walk(source, limits, skip):
        goal = f"{target}/{entry.path}"
        if os.path.lexists(goal):
            continue
        if entry.is_folder:
            os.mkdir(goal)
        elif entry.is_link:
            os.symlink(os.readlink(f"{source}/{entry.path}"), goal)
        elif entry.is_file:
            copy_file(f"{source}/{entry.path}", goal)


@functools.lru_cache(maxsize=64)
def load_tree(*roots: Path) -> tuple[tuple[str, int, bytes | None], ...]:
    """Small trees that do not change, one over the other, kept in memory: path, permission bits, content.

    Folders have no content and come before what is in them; compiled Python is left out.
    """
    found: dict[str, tuple[str, int, bytes | None]] = {}
    for root in roots:
        for entry in walk(root, skip=is_cache):
            if entry.is_folder or entry.is_file:
                content = (root / entry.path).read_bytes() if entry.is_file else None
                mode = stat.S_IMODE(entry.info.st_mode) & 0o777 | 0o600
                found[entry.path] = (entry.path, mode, content)
    return tuple(found.values())


def write_file(path: str, mode: int, content: bytes) -> None:
    """Create a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        write_all(descriptor, content)
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Write a text file in one step: whoever looks, also after a crash, finds the old content or the new."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(text, "utf-8")
    os.replace(scratch, path)


def write_all(descriptor: int, content: bytes) -> int:
    """Write all of it; how many bytes that were."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(content)


def is_cache(path: str) -> bool:
    """Compiled Python, which is no part of anybody's work."""
    return path.endswith(("__pycache__", ".pyc"))


def copy_file(source: str | Path, target: str | Path) -> None:
    """Copy one regular file to a new path, with its permission bits.

    Raises:
        WorkspaceError: It is no regular file, cannot be read, or the disk is full.
    """
    try:
        reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            info = os.fstat(reader)
            if not stat.S_ISREG(info.st_mode):
                raise WorkspaceError(f"{os.path.basename(source)} is no regular file")
            mode = stat.S_IMODE(info.st_mode) & 0o777 | 0o600
            writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                copy_bytes(reader, writer, info.st_size)
            finally:
                os.close(writer)
        finally:
            os.close(reader)
    except OSError as error:
        raise WorkspaceError(f"{os.path.basename(source)} cannot be copied: {error.strerror}") from error


def copy_bytes(reader: int, writer: int, size: int) -> int:
    """Copy at most `size` bytes, inside the kernel where it can; how many there were."""
    left = size
    while left > 0:
        try:
            copied = os.copy_file_range(reader, writer, left)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                raise
            copied = write_all(writer, os.read(reader, min(left, _CHUNK)))
        if copied == 0:
            break
        left -= copied
    return size - left


def hash_tree(root: Path, limits: TreeLimits | None = None) -> str:
    """SHA-256 over paths, kinds, execute bits, contents and link texts, as hex."""
    digest = hashlib.sha256()
    for entry in sorted(walk(root, limits), key=lambda entry: entry.path):
        path = f"{root}/{entry.path}"
        kind = "d" if entry.is_folder else "l" if entry.is_link else "f" if entry.is_file else "?"
        content = ""
        if entry.is_file:
            content = f"{entry.info.st_mode & 0o100:o} {hash_file(path)}"
        elif entry.is_link:
            content = os.readlink(path)
        digest.update(f"{kind} {entry.path}\0{content}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def hash_file(path: str | Path) -> str:
    """SHA-256 of a file's content, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_tree(root: Path) -> None:
    """Remove a tree of any depth and any permissions; no error if it does not exist.

    Subfolders are first moved up beside each other, so that no path grows and nothing
    recurses. Only call it when no process writes into the tree any more.
    """
    try:
        shutil.rmtree(root)
        return
    except FileNotFoundError:
        return
    except (OSError, RecursionError):
        pass
    with tempfile.TemporaryDirectory(prefix=".removing-", dir=root.parent) as trash:
        pending = [str(root)]
        number = 0
        while pending:
            folder = pending.pop()
            os.chmod(folder, 0o700)
            for entry in list(os.scandir(folder)):
                if entry.is_dir(follow_symlinks=False):
                    number += 1
                    os.chmod(entry.path, 0o700)
                    os.rename(entry.path, f"{trash}/{number}")
                    pending.append(f"{trash}/{number}")
                else:
                    os.unlink(entry.path)
            os.rmdir(folder)


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """An exclusive lock between processes; the kernel frees it with its holder.

    Args:
        path: A file for it, made if it does not exist.
        on_wait: Called if somebody else has it, before waiting.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is not None:
                on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _scan(root: Path, base: str, most: int) -> list[os.DirEntry[str]]:
    """Entries of one folder by name; an unreadable folder is empty."""
    found: list[os.DirEntry[str]] = []
    try:
        with os.scandir(f"{root}/{base}") as entries:
            for entry in entries:
                found.append(entry)
                if len(found) > most:
                    break
    except PermissionError:
        return []
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise WorkspaceError("a path is longer than the system allows; flatten the folders") from None
        raise WorkspaceError(f"the folder {base or '.'} cannot be listed: {error.strerror}") from error
    return sorted(found, key=lambda entry: entry.name)
