"""Snapshot: the whole state of an episode at a step, as a value.

Commands are stateless, so an episode is its files, what it has spent, and how it was judged.
A snapshot names the files by digest and holds the rest: taking one copies what has changed
since the last one and nothing else. It shares contents with every other snapshot and fork in a
`ContentStore`, and is usable as long as one of the environments that were forked from each other is
open.

A saved snapshot is one file of plain data, with all its contents; `snapshot_file.py` defines the format.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, SupportsIndex

from mlrcbench.errors import SnapshotError, WorkspaceError
from mlrcbench.storage.snapshots.content_store import ContentStore
from mlrcbench.storage.snapshots.snapshot_file import read_snapshot_file, write_snapshot_file
from mlrcbench.storage.snapshots.state import ContentSource, EpisodeState, Files, explained


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, repr=False)
class Snapshot:
    """The state of an episode; made by `ResearchEnv.snapshot` or `load_snapshot`, and never changed.

    Attributes:
        state: Everything except the files.
        files: The files, by digest.
        source: Where the files' contents are.
    """

    state: EpisodeState
    files: Files
    source: ContentSource

    def __repr__(self) -> str:
        return f"<Snapshot of {self.state.competition}, instance {self.state.instance}, step {self.step}>"

    def __copy__(self) -> Snapshot:
        return self

    def __deepcopy__(self, memo: object) -> Snapshot:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a snapshot cannot be pickled; save() writes it to a file, for load_snapshot")

    @property
    def step(self) -> int:
        """How many steps had been taken."""
        return self.state.steps

    @property
    def best_improvement(self) -> float:
        """Largest relative improvement on dev by then; 0, the baseline, before the first."""
        return self.state.best_improvement

    @property
    def total_bytes(self) -> int:
        """Size of all its contents, each counted once."""
        return sum(self.files.contents().values())

    @property
    def store(self) -> ContentStore:
        """The store that holds the contents.

        Raises:
            SnapshotError: The contents are still in a file; see `bring`.
        """
        if not isinstance(self.source, ContentStore):
            raise SnapshotError("a snapshot from a file must be brought into a store first")
        return self.source

    def digests(self) -> set[str]:
        """Digests of the contents that it names."""
        return set(self.files.contents())

    def later(self, seconds: float) -> Snapshot:
        """The same state after some time in which nothing was done."""
        return dataclasses.replace(self, state=self.state.copy(seconds=self.state.seconds + seconds))

    def bring(self, store: ContentStore) -> Snapshot:
        """This snapshot with its contents in a store.

        Raises:
            SnapshotError: A content is missing or damaged, or the disk is full.
        """
        if self.source is store:
            return self
        with store.lock:
            for digest, size in self.files.contents().items():
                if digest not in store and self._copy_to(store, digest, size) != digest:
                    raise SnapshotError("a file of the snapshot is damaged; take or load it again")
            brought = dataclasses.replace(self, source=store)
            store.hold(brought)
        return brought

    def _copy_to(self, store: ContentStore, digest: str, size: int) -> str:
        try:
            with self.source.reader(digest) as descriptor:
                return store.put(descriptor, size)[0]
        except WorkspaceError as error:
            raise explained(error) from error

    def save(self, path: str | Path) -> None:
        """Write the snapshot to one file, which appears under its name when it is complete.

        The file holds what the agent wrote and read, and its scores, but neither the instance's
        files nor its secret.

        Args:
            path: A new file, or one to replace.

        Raises:
            SnapshotError: A content is missing, or the file cannot be written.
        """
        target = Path(path).absolute()
        scratch = target.with_name(f".{target.name[:100]}-{secrets.token_hex(8)}")
        try:
            try:
                write_snapshot_file(scratch, self.state, self.files, self.source)
                os.replace(scratch, target)
            finally:
                scratch.unlink(missing_ok=True)
            folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with contextlib.suppress(OSError):  # some file systems cannot
                os.fsync(folder)
            os.close(folder)
        except OSError as error:
            raise SnapshotError(f"{target} cannot be written: {error.strerror}") from error


def load_snapshot(path: str | Path) -> Snapshot:
    """Read a snapshot that `Snapshot.save` wrote, here or on another machine.

    The file has to stay where it is until the snapshot is restored.

    Args:
        path: The file; its content need not be trusted.

    Raises:
        SnapshotError: The file is not a snapshot, or is damaged.
    """
    return Snapshot(*read_snapshot_file(Path(path).absolute()))
