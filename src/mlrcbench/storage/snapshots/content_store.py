"""ContentStore: file contents by digest, in a folder that agent code cannot reach.

Snapshots share contents: each is kept once, however many snapshots, forks and paths it belongs to.
Contents are copied in and copied out, never linked into a workspace: agent code owns the files of
its workspace, and by writing to a linked file it could change what was stored. `copy_file_range`
makes the copies, which shares blocks where the file system can. Files in records, which agent code
cannot reach either, are linked.

A store belongs to the environments that were forked from each other, and is removed with the last
of them. Until then it removes contents that no snapshot names any more.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from mlrcbench.errors import SandboxError, SnapshotError, WorkspaceError
from mlrcbench.sandbox.ownership import Owner
from mlrcbench.storage.temporary import make_scratch, remove_scratch
from mlrcbench.storage.trees import copy_bytes, copy_file, write_file

_SMALL_BYTES = 1 << 20
_SWEEP_BYTES = 256 << 20
_LINKED = {0o644: 0o444, 0o755: 0o555}


class Holder(Protocol):
    """An object that names contents; they are kept as long as the object exists."""

    def digests(self) -> set[str]:
        """Digests of the contents that it names."""
        ...


class ContentStore:
    """Contents by SHA-256, in hex; for all threads of the process that created the store.

    Raises:
        WorkspaceError: The store's folder cannot be created.
    """

    def __init__(self) -> None:
        try:
            self.folder = make_scratch("store")
        except SandboxError as error:
            raise WorkspaceError(f"a store for snapshots cannot be made: {error}") from error
        self._is_open = True
        self.lock = threading.RLock()
        self._owner = Owner()
        self._sizes: dict[str, int] = {}
        self._holders: weakref.WeakSet[Holder] = weakref.WeakSet()
        self._total = 0
        self._users = 0
        self._sweep_at = _SWEEP_BYTES

    @property
    def is_open(self) -> bool:
        """Whether the store still exists, and belongs to this process."""
        return self._is_open and self._owner.is_here

    @property
    def total_bytes(self) -> int:
        """Bytes of all stored contents."""
        return self._total

    @property
    def sizes(self) -> Mapping[str, int]:
        """Digest -> size of every stored content."""
        return self._sizes

    def __contains__(self, digest: str) -> bool:
        return digest in self._sizes

    def join(self) -> None:
        """Register one more user, an environment."""
        with self.lock:
            self._users += 1

    def leave(self) -> None:
        """Release one user; the last one removes the store."""
        with self.lock:
            self._users -= 1
            if self._users > 0 or not self.is_open:
                return
            remove_scratch(self.folder)
            self._is_open = False
            self._sizes.clear()
            self._total = 0

    def hold(self, holder: Holder) -> None:
        """Keep the contents that a holder names as long as something refers to the holder."""
        with self.lock:
            self._holders.add(holder)
            if self.total_bytes > self._sweep_at:
                self.sweep()
                self._sweep_at = 2 * self.total_bytes + _SWEEP_BYTES

    def sweep(self) -> None:
        """Remove every content that no holder names."""
        with self.lock:
            named = set().union(*(holder.digests() for holder in self._holders))
            for digest in self._sizes.keys() - named:
                self._total -= self._sizes.pop(digest)
                for path in (self._path(digest), self._linked(digest, 0o444), self._linked(digest, 0o555)):
                    path.unlink(missing_ok=True)

    def put(self, descriptor: int, size: int) -> tuple[str, int]:
        """Store at most `size` bytes from a descriptor's position.

        Returns:
            The digest, and the number of bytes.

        Raises:
            WorkspaceError: The bytes cannot be read, or the disk is full.
        """
        if size <= _SMALL_BYTES:
            content = read(descriptor, size)
            return self.put_bytes(content), len(content)
        self._check()
        scratch = self.folder / f".{secrets.token_hex(8)}"
        with _explained("a file"):
            try:
                writer = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
                with os.fdopen(writer, "rb") as copy:
                    copied = copy_bytes(descriptor, writer, size)
                    copy.seek(0)
                    digest = hashlib.file_digest(copy, "sha256").hexdigest()
                with self.lock:
                    os.rename(scratch, self._path(digest))
                    self._add(digest, copied)
            finally:
                scratch.unlink(missing_ok=True)
        return digest, copied

    def put_bytes(self, content: bytes) -> str:
        """Store a content; returns its digest.

        Raises:
            WorkspaceError: The disk is full.
        """
        digest = hashlib.sha256(content).hexdigest()
        with self.lock:
            self._check()
            if digest not in self._sizes:
                path = self._path(digest)
                try:
                    with _explained("a file"):
                        write_file(str(path), 0o444, content)
                except BaseException:
                    path.unlink(missing_ok=True)
                    raise
                self._add(digest, len(content))
        return digest

    @contextlib.contextmanager
    def reader(self, digest: str) -> Iterator[int]:
        """A descriptor, positioned at the start of a content.

        Raises:
            SnapshotError: The content is not stored, or is not stored any more.
        """
        self._check()
        try:
            descriptor = os.open(self._path(digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise SnapshotError(f"a stored file cannot be opened: {error.strerror}") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def copy_out(self, digest: str, size: int, writer: int) -> None:
        """Write a content to a descriptor.

        Raises:
            SnapshotError: The content is not stored, or is not stored any more.
            WorkspaceError: The disk is full.
        """
        with self.reader(digest) as descriptor, _explained("a file"):
            if copy_bytes(descriptor, writer, size) != size:
                raise SnapshotError("a stored file is shorter than it was; something has changed the store")

    def link_out(self, digest: str, mode: int, target: Path, *, copy: bool = False) -> None:
        """Make a file that shares its blocks with the store, for folders that agent code cannot reach.

        A file of a usual mode is a read-only link. A file of another mode, or on another file system,
        is a copy.

        Args:
            digest: Digest of the file's content.
            mode: The file's permission bits.
            target: Path of the new file.
            copy: Whether to make a copy in any case.

        Raises:
            WorkspaceError: As for `copy_out`.
        """
        self._check()
        if mode in _LINKED and not copy:
            source = self._linked(digest, _LINKED[mode])
            with contextlib.suppress(OSError):
                if not source.exists():
                    self._make_linkable(digest, source, _LINKED[mode])
                os.link(source, target)
                return
        copy_file(self._path(digest), target)
        with _explained("a file"):
            target.chmod(mode)

    def _make_linkable(self, digest: str, source: Path, mode: int) -> None:
        """Make a second copy to link from: snapshots are restored from a file that nothing else links to."""
        scratch = self.folder / f".{secrets.token_hex(8)}"
        try:
            copy_file(self._path(digest), scratch)
            scratch.chmod(mode)
            os.rename(scratch, source)
        finally:
            scratch.unlink(missing_ok=True)

    def _add(self, digest: str, size: int) -> None:
        self._total += size - self._sizes.get(digest, 0)
        self._sizes[digest] = size

    def _path(self, digest: str) -> Path:
        return self.folder / digest

    def _linked(self, digest: str, mode: int) -> Path:
        return self.folder / f"{digest}-{mode:o}"

    def _check(self) -> None:
        if not self._owner.is_here:
            raise SnapshotError(
                "this snapshot belongs to the process that took it; save() it there, and load it here"
            )
        if not self.is_open:
            raise SnapshotError(
                "the environments that this snapshot was taken in are closed, and its files went with them; "
                "save() a snapshot to keep it, or close the last environment later"
            )


def read(descriptor: int, size: int) -> bytes:
    """At most `size` bytes from a descriptor's position.

    Raises:
        WorkspaceError: The bytes cannot be read.
    """
    parts: list[bytes] = []
    with _explained("a file"):
        while size > 0 and (part := os.read(descriptor, size)):
            parts.append(part)
            size -= len(part)
    return b"".join(parts)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the system's errors into sentences."""
    try:
        yield
    except OSError as error:
        raise WorkspaceError(f"{what} cannot be read or written: {error.strerror}") from error
