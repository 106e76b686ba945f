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
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlrcbench.errors import WorkspaceError
from mlrcbench.storage.descriptors import MAX_PATH_BYTES, READ_FILE, Cursor, explained, show

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
    """One entry of a tree: its relative path, and what `os.lstat` says of it."""

    path: str
    info: os.stat_result

    @property
    def is_folder(self) -> bool:
        """Whether the entry is a real folder, not a link to one."""
        return stat.S_ISDIR(self.info.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether the entry is a regular file."""
        return stat.S_ISREG(self.info.st_mode)

    @property
    def is_link(self) -> bool:
        """Whether the entry is a symbolic link, wherever it points."""
        return stat.S_ISLNK(self.info.st_mode)


def walk(
    root: Path, limits: TreeLimits | None = None, skip: Callable[[str], bool] | None = None
) -> Iterator[Entry]:
    """Every entry below `root`, a folder before its content, always in the same order.

    Args:
        root: A folder.
        limits: Bounds on the tree; None for the default bounds.
        skip: Whether to leave out a relative path, with everything below it.

    Raises:
        WorkspaceError: The tree exceeds a limit, or a folder of it cannot be read.
    """
    with _opened(root) as cursor:
        for _, entry in _visit(cursor, limits or TreeLimits(), skip):
            yield entry


def copy_tree(
    source: Path,
    target: Path,
    limits: TreeLimits | None = None,
    *,
    skip: Callable[[str], bool] | None = None,
    only: Callable[[Entry], bool] | None = None,
) -> None:
    """Copy regular files, folders and link texts; what already exists in `target` stays as it is.

    Pipes, sockets and devices are left out. Files are made by `copy_file_range`, which shares
    blocks where the file system can.

    Args:
        source: The folder to copy.
        target: The folder to copy to.
        limits: See `walk`.
        skip: See `walk`.
        only: Whether to copy an entry that is not a folder; all of them by default.

    Raises:
        WorkspaceError: The tree exceeds a limit, cannot be read, or has a folder where `target` has a file.
        SandboxError: The disk is full, or the machine fails in another way.
        OSError: `target` cannot be created.
    """
    target.mkdir(parents=True, exist_ok=True)
    with _opened(source) as there, Cursor(target) as here:
        for folder, entry in _visit(there, limits or TreeLimits(), skip):
            if only is not None and not entry.is_folder and not only(entry):
                continue
            base, slash, _ = entry.path.rpartition("/")
            with explained(entry.path):
                _copy_entry(entry, folder, here.open(f"{base}{slash}"))


@functools.lru_cache(maxsize=64)
def load_tree(*roots: Path) -> tuple[tuple[str, int, bytes | None], ...]:
    """Path, permission bits and content of small trees laid one over the other, kept in memory.

       The trees must not change.
    Folders have no content and come before what is in them; compiled Python is left out.
    """
    nodes: dict[str, tuple[str, int, bytes | None]] = {}
    for root in roots:
        for entry in walk(root, skip=is_cache):
            if entry.is_folder or entry.is_file:
                content = (root / entry.path).read_bytes() if entry.is_file else None
                mode = stat.S_IMODE(entry.info.st_mode) & 0o777 | 0o600
                nodes[entry.path] = (entry.path, mode, content)
    return tuple(nodes.values())


def write_file(path: str, mode: int, content: bytes) -> None:
    """Create a file; its permission bits do not depend on the umask."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        write_all(descriptor, content)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> int:
    """Write all of `content`; returns the number of bytes."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(content)


def is_cache(path: str) -> bool:
    """Whether a path is compiled Python, which nobody wrote."""
    return path.endswith(("__pycache__", ".pyc"))


def copy_file(
    source: str | Path,
    target: str | Path,
    *,
    source_folder: int | None = None,
    target_folder: int | None = None,
) -> None:
    """Copy one regular file to a new path, with its permission bits.

    Args:
        source: Path of the file.
        target: Path of the copy.
        source_folder: Descriptor of the folder that `source` is relative to.
        target_folder: Descriptor of the folder that `target` is relative to.

    Raises:
        WorkspaceError: The source is not a regular file, or cannot be read.
        SandboxError: The disk is full, or the machine fails in another way.
    """
    name = os.path.basename(source)
    with explained(name):
        reader = os.open(source, READ_FILE, dir_fd=source_folder)
        try:
            info = os.fstat(reader)
            if not stat.S_ISREG(info.st_mode):
                raise WorkspaceError(f"{show(name)} is not a regular file")
            mode = stat.S_IMODE(info.st_mode) & 0o777 | 0o600
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            writer = os.open(target, flags, mode, dir_fd=target_folder)
            try:
                os.fchmod(writer, mode)  # whatever the umask is
                copy_bytes(reader, writer, info.st_size)
            finally:
                os.close(writer)
        finally:
            os.close(reader)


def copy_bytes(reader: int, writer: int, size: int) -> int:
    """Copy at most `size` bytes, inside the kernel where it can; returns how many there were."""
    remaining = size
    while remaining > 0:
        try:
            copied = os.copy_file_range(reader, writer, remaining)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                raise
            copied = write_all(writer, os.read(reader, min(remaining, _CHUNK)))
        if copied == 0:
            break
        remaining -= copied
    return size - remaining


def hash_tree(root: Path, limits: TreeLimits | None = None) -> str:
    """SHA-256 of a tree, as hex: of paths, kinds, execute bits, contents and link texts.

    Raises:
        WorkspaceError: The tree exceeds a limit, or cannot be read.
    """
    nodes: list[tuple[str, str, str]] = []
    with _opened(root) as cursor:
        for folder, entry in _visit(cursor, limits or TreeLimits(), None):
            with explained(entry.path):
                nodes.append((entry.path, *_content(entry, folder)))
    digest = hashlib.sha256()
    for path, kind, content in sorted(nodes):
        digest.update(f"{kind} {path}\0{content}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _content(entry: Entry, folder: int) -> tuple[str, str]:
    """The kind of an entry, and what stands for its content, given its open folder."""
    name = os.path.basename(entry.path)
    if entry.is_folder:
        return "d", ""
    if entry.is_link:
        return "l", os.readlink(name, dir_fd=folder)
    if not entry.is_file:
        return "?", ""
    with os.fdopen(os.open(name, READ_FILE, dir_fd=folder), "rb") as file:
        return "f", f"{entry.info.st_mode & 0o100:o} {hashlib.file_digest(file, 'sha256').hexdigest()}"


def hash_file(path: str | Path) -> str:
    """SHA-256 of a file's content, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_tree(root: Path) -> None:
    """Remove a tree of any depth and any permissions; no error if it does not exist.

    Subfolders are first moved next to each other, so that no path grows and nothing recurses.
    Call it only when no process writes into the tree any more.
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
    """An exclusive lock between processes; the kernel releases it when its holder ends.

    Args:
        path: A file for the lock, created if it does not exist.
        on_wait: Called before waiting, if another process holds the lock.
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


@contextlib.contextmanager
def _opened(root: Path) -> Iterator[Cursor]:
    """A cursor over a tree."""
    with explained("."):
        cursor = Cursor(root)
    with cursor:
        yield cursor


def _visit(
    cursor: Cursor, limits: TreeLimits, skip: Callable[[str], bool] | None
) -> Iterator[tuple[int, Entry]]:
    """Every entry of a tree with a descriptor of its folder, which is valid until the next one."""
    count = total = 0
    pending = [""]
    while pending:
        base = pending.pop()
        folders = []
        folder, listing = _scan(cursor, base, limits.entries)
        for name, info in listing:
            path = f"{base}{name}"
            if skip is not None and skip(path):
                continue
            if len(path) > MAX_PATH_BYTES // 4 and len(os.fsencode(path)) > MAX_PATH_BYTES:
                raise WorkspaceError(f"a path is longer than {MAX_PATH_BYTES:,} bytes; flatten the folders")
            node = Entry(path, info)
            count += 1
            total += info.st_size if node.is_file else 0
            if count > limits.entries or total > limits.total_bytes:
                raise WorkspaceError(
                    f"there are more than {limits.entries:,} files or {limits.total_bytes:,} bytes; "
                    "remove what is not needed"
                )
            if node.is_folder:
                folders.append(f"{path}/")
            yield folder, node
        if folders and base.count("/") >= limits.depth:
            raise WorkspaceError(f"folders nest deeper than {limits.depth}; flatten them")
        pending.extend(reversed(folders))


def _scan(cursor: Cursor, base: str, limit: int) -> tuple[int, list[tuple[str, os.stat_result]]]:
    """A folder's descriptor, and its entries by name; one that has just disappeared counts as empty."""
    listing: list[tuple[str, os.stat_result]] = []
    with explained(base or "."):
        try:
            folder = cursor.open(base)
        except OSError as error:
            if base and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return -1, []
            raise
        with os.scandir(folder) as entries:
            for entry in itertools.islice(entries, limit + 1):
                with contextlib.suppress(FileNotFoundError):
                    listing.append((entry.name, entry.stat(follow_symlinks=False)))
    return folder, sorted(listing, key=lambda item: item[0])


def _copy_entry(entry: Entry, folder: int, goal: int) -> None:
    """Copy one entry from an open folder to another one, unless there is something of its name."""
    name = os.path.basename(entry.path)
    try:
        existing = os.stat(name, dir_fd=goal, follow_symlinks=False)
    except FileNotFoundError:
        existing = None
    if existing is not None:
        if entry.is_folder and not stat.S_ISDIR(existing.st_mode):
            raise WorkspaceError(f"{show(entry.path)} must be a file, and is a folder; remove it")
    elif entry.is_folder:
        os.mkdir(name, dir_fd=goal)
    elif entry.is_link:
        os.symlink(os.readlink(name, dir_fd=folder), name, dir_fd=goal)
    elif entry.is_file:
        copy_file(name, name, source_folder=folder, target_folder=goal)
