"""Snapshot: the whole state of an episode at a step, as a value.

Commands are stateless, so an episode is its files, what it has spent, and how it was judged.
A snapshot names the files by digest and holds the rest: taking one copies what has changed
since the last one and nothing else. It shares contents with every other snapshot and fork in a
`Store`, and lives as long as one of the environments that were forked from each other is open.

Saved, it is one file of plain data, with all its contents: a line with the length and the
SHA-256 of what follows, that many bytes of JSON, then the contents, sorted by digest. `saved.py`
reads it, as hostile input.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlrcbench.errors import SnapshotError, WorkspaceError
from mlrcbench.files import copy_bytes
from mlrcbench.score import Score
from mlrcbench.store import Store
from mlrcbench.tree import Tree

MAGIC = "mlrcbench-snapshot"
FORMAT = 1


class Source(Protocol):
    """Where a snapshot's contents are: a store, or a saved file."""

    def reader(self, digest: str) -> AbstractContextManager[int]:
        """A descriptor at the start of a content."""
        ...


@dataclass(frozen=True, slots=True)
class State:
    """All of an episode that is no file; JSON types but for the scores.

    Attributes:
        competition: Its id; with `version` and `tier`.
        version: Of the competition.
        tier: "mini" or "full".
        instance: Its seed.
        instance_digest: SHA-256 over its files.
        rules: "budget", "reward", "clip" and "final" of the environment.
        seed: Of the reset that began the episode.
        steps: Taken so far.
        evaluations: Used so far.
        seconds: Used so far.
        scores: The agent's, on dev, in order.
        best: Value and folder of the evaluation that would be scored on test.
        briefing: What the agent was told at the start.
        body: What it was told last,
        aside: and what a job had printed then,
        body_seconds: and how long that step took; None for a reset.
        info: Of the last reset or step.
        random: State of the environment's `np_random`, and the seed it began with.
        record: Name of the record's folder.
    """

    competition: str
    version: int
    tier: str
    instance: int
    instance_digest: str
    rules: Mapping[str, Any]
    seed: int | None
    steps: int
    evaluations: int
    seconds: float
    scores: tuple[Score, ...]
    best: tuple[float, str] | None
    briefing: str
    body: str
    aside: str
    body_seconds: float | None
    info: Mapping[str, Any]
    random: Mapping[str, Any]
    record: str

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON types."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "scores": [score.to_json() for score in self.scores]}


@dataclass(frozen=True, slots=True)
class Files:
    """All files of an episode, and the lines of its record.

    Attributes:
        workspace: What the agent made of the starter.
        outputs: Outputs that were too long to show.
        kept: Folder in the record -> what was kept of an evaluation.
        journal: Digest and size of each part of the record, from its header on.
    """

    workspace: Tree
    outputs: Tree
    kept: Mapping[str, Tree]
    journal: tuple[tuple[str, int], ...]

    def contents(self) -> dict[str, int]:
        """Digest -> size of everything that is named."""
        trees = (self.workspace, self.outputs, *self.kept.values())
        found = {node.content: node.size for tree in trees for node in tree.values() if node.kind == "file"}
        return {**found, **dict(self.journal)}


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, repr=False)
class Snapshot:
    """The state of an episode; made by `ResearchEnv.snapshot` or `load_snapshot`, and never changed.

    Attributes:
        state: All that is no file.
        files: The files, by digest.
        source: Where their contents are.
    """

    state: State
    files: Files
    source: Source

    def __repr__(self) -> str:
        return f"<Snapshot of {self.state.competition}, instance {self.state.instance}, step {self.step}>"

    @property
    def step(self) -> int:
        """How many steps had been taken."""
        return self.state.steps

    @property
    def best_improvement(self) -> float:
        """Largest relative improvement on dev by then; 0, the baseline, before any."""
        return best_improvement(self.state.scores)

    @property
    def total_bytes(self) -> int:
        """Size of all its contents, each counted once."""
        return sum(self.files.contents().values())

    @property
    def store(self) -> Store:
        """Where its contents are, once it was brought there."""
        if not isinstance(self.source, Store):
            raise SnapshotError("a snapshot from a file has to be brought into a store first")
        return self.source

    def digests(self) -> set[str]:
        """The contents that it names."""
        return set(self.files.contents())

    def later(self, seconds: float) -> Snapshot:
        """The same state after some time in which nothing was done."""
        state = dataclasses.replace(self.state, seconds=self.state.seconds + seconds)
        return dataclasses.replace(self, state=state)

    def bring(self, store: Store) -> Snapshot:
        """This snapshot with its contents in a store.

        Raises:
            SnapshotError: A content is gone or damaged, or the disk is full.
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

    def _copy_to(self, store: Store, digest: str, size: int) -> str:
        try:
            with self.source.reader(digest) as descriptor:
                return store.put(descriptor, size)[0]
        except WorkspaceError as error:
            raise explained(error) from error

    def read_journal(self) -> bytes:
        """The record's lines up to this step, without its header.

        Raises:
            SnapshotError: They are gone.
        """
        parts = []
        for digest, size in self.files.journal:
            with self.source.reader(digest) as descriptor:
                parts.append(os.pread(descriptor, size, os.lseek(descriptor, 0, os.SEEK_CUR)))
        return b"".join(parts)

    def save(self, path: str | Path) -> None:
        """Write it to one file, which appears under its name when it is complete.

        It holds what the agent wrote and what it was told, its scores, and neither the
        instance's files nor its secret.

        Args:
            path: A new file, or one that is replaced.

        Raises:
            SnapshotError: A content is gone, or the file cannot be written.
        """
        target = Path(path).absolute()
        scratch = target.with_name(f".{target.name[:100]}-{secrets.token_hex(8)}")
        try:
            try:
                self._write(scratch)
                os.replace(scratch, target)
            finally:
                scratch.unlink(missing_ok=True)
            folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with contextlib.suppress(OSError):  # some file systems cannot
                os.fsync(folder)
            os.close(folder)
        except OSError as error:
            raise SnapshotError(f"{target} cannot be written: {error.strerror}") from error

    def _write(self, path: Path) -> None:
        manifest = json.dumps(self._manifest(), ensure_ascii=True, allow_nan=False).encode("ascii")
        digest = hashlib.sha256(manifest).hexdigest()
        with path.open("xb", buffering=0) as file:
            file.write(f"{MAGIC} {FORMAT} {len(manifest)} {digest}\n".encode("ascii") + manifest)
            for content, size in sorted(self.files.contents().items()):
                with self.source.reader(content) as descriptor:
                    if copy_bytes(descriptor, file.fileno(), size) != size:
                        raise SnapshotError("a stored file is shorter than it was; take the snapshot again")
            os.fsync(file.fileno())

    def _manifest(self) -> dict[str, Any]:
        files = self.files
        return {
            "state": self.state.to_json(),
            "workspace": _rows(files.workspace),
            "outputs": _rows(files.outputs),
            "kept": {name: _rows(tree) for name, tree in files.kept.items()},
            "journal": [list(part) for part in files.journal],
        }


def best_improvement(scores: tuple[Score, ...] | list[Score]) -> float:
    """The largest relative improvement; 0, the baseline, before any."""
    return max([0.0, *(score.improvement for score in scores if score.improvement is not None)])


def explained(error: WorkspaceError) -> SnapshotError:
    """A failure to bring files back, which is none of the agent's."""
    return SnapshotError(f"the snapshot cannot be restored: {error}")


def _rows(tree: Tree) -> list[list[Any]]:
    return [[path, *node] for path, node in tree.items()]
