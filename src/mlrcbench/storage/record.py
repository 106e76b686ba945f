"""The record of an episode: its format, written and read back.

A record is a directory:

    record.jsonl            a header, then one line per step and per evaluation, then a footer
    outputs/                outputs that were too long to show
    evaluations/001-dev/    workspace/ (the files that were scored), artefacts/, output.txt

The record of an episode that began from a snapshot also holds the lines up to that step, so that it
can be replayed like any other; its header names the record that they come from, as `"parent"`.

Each line of `record.jsonl` is a JSON object with a `"kind"`: "header", "step", "evaluation" or
"footer"; the classes of this module define their keys. Lines are written one by one, so a crash costs
at most the line that was being written; the reader ignores a torn last line, and the writer removes one
before it writes another. Later versions may add kinds and keys.

A record may come from somebody else, so it is read as data: nothing in it is trusted, no link in it is
followed, and no name in it leads out of its folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mlrcbench.__version__ import __version__
from mlrcbench.errors import RecordError, SandboxError, SubmissionError, cause
from mlrcbench.sandbox import Isolation
from mlrcbench.sandbox.folders import MOVE_RECORDS, usable
from mlrcbench.sandbox.ownership import Owner
from mlrcbench.score import Score, Split
from mlrcbench.storage.durable import append
from mlrcbench.storage.layout import OUTPUTS, RECORD_FILE
from mlrcbench.storage.snapshots.state import KEPT, SpendingLimits
from mlrcbench.storage.strict import (
    bounds,
    is_real_folder,
    open_regular,
    parse_object,
    read_dataclass,
    to_json,
)

VERSION = 1
# More than any episode writes: the longest action has 4 million characters, of at most 12 bytes each.
MAX_LINE_BYTES = 64 << 20
MAX_RECORD_BYTES = 1 << 30
FULL_RECORD_BYTES = MAX_RECORD_BYTES - 4 * MAX_LINE_BYTES  # the last step and its evaluations still fit


@dataclass(frozen=True, slots=True)
class Parent:
    """Where the episode of a record began, if it began from a snapshot.

    Attributes:
        record: Folder name of the record of the episode that the snapshot was taken in.
        step: Number of steps before the snapshot.
    """

    record: str
    step: int


@dataclass(frozen=True, slots=True)
class Header:
    """What is needed to repeat an episode, and to judge how far to trust its record.

    Attributes:
        competition: Id of the competition.
        competition_version: Version of the competition.
        tier: "mini" or "full".
        instance: Seed of the instance.
        instance_digest: SHA-256 over the instance's files.
        secret: Kind of the instance's secret; see `Instance.secret_kind`.
        statement: What the agent read at the start.
        seed: Seed of the reset that began the episode.
        sandbox: The requested kind of sandbox.
        isolation: What the sandbox enforced.
        budget: What the episode could spend.
        reward: "sparse" or "shaped".
        clip: Bounds on improvements in the reward, or None.
        final: "best" or "last".
        parent: The snapshot that the episode began from; None for the starter.
        version: Version of this format.
        mlrcbench: Version of the library.
        python: Version of Python.
        platform: Operating system and machine.
    """

    competition: str
    competition_version: int
    tier: str
    instance: int
    instance_digest: str
    secret: str
    statement: str
    seed: int | None
    sandbox: str
    isolation: Isolation
    budget: SpendingLimits
    reward: str
    clip: tuple[float, float] | None
    final: str
    parent: Parent | None = None
    version: int = VERSION
    mlrcbench: str = __version__
    python: str = dataclasses.field(default_factory=platform.python_version)
    platform: str = dataclasses.field(default_factory=platform.platform)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step.

    Attributes:
        step: Its number, from 1.
        action: The action, in the form that `recordable` returns.
        body: Body of the observation; the same in a replay.
        aside: Aside of the observation; it may differ in a replay.
        status: Status line of the observation.
        reward: Sum of the reward's terms.
        reward_terms: "dev" and "test".
        terminated: Whether the agent submitted.
        truncated_by: Which part of the budget ended the episode, "record" if its record was full, or None.
        error: Why the action could not be carried out; empty if it was.
        seconds: Wall time of the step.
    """

    step: int
    action: Any
    body: str
    reward: float
    reward_terms: Mapping[str, float] = dataclasses.field(default_factory=dict)
    aside: str = ""
    status: str = ""
    terminated: bool = False
    truncated_by: str | None = None
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """One evaluation.

    Attributes:
        after_step: Number of steps before the evaluation.
        split: "dev" or "test".
        by: "agent", or "host" for one that the host program asked for.
        folder: Folder of its files, relative to the record.
        score: The resulting score.
    """

    after_step: int
    split: Split
    by: str
    folder: str = dataclasses.field(metadata=bounds(pattern=KEPT))
    score: Score


@dataclass(frozen=True, slots=True)
class Footer:
    """How an episode ended.

    Attributes:
        ending: In words, for example "submitted".
        seconds: Wall time from the reset; None if the episode could not begin.
    """

    ending: str
    seconds: float | None = None


Row = Header | StepRecord | EvaluationRecord | Footer
ROWS: Mapping[str, type[Row]] = {
    "header": Header,
    "step": StepRecord,
    "evaluation": EvaluationRecord,
    "footer": Footer,
}
_KIND_OF = {cls: kind for kind, cls in ROWS.items()}


class Recorder:
    """Writes a record; one per episode. The first row must be the header.

    Only the process that opened the record writes into it.

    Args:
        directory: A new folder for the record.

    Raises:
        DataError: The folder cannot be made; the text says what to set.
    """

    def __init__(self, directory: Path) -> None:
        with usable(directory, MOVE_RECORDS):
            directory.mkdir(mode=0o700, parents=True)
            (directory / OUTPUTS).mkdir()
            self._file = (directory / RECORD_FILE).open("x+b", buffering=0)
        self.directory = directory
        self._owner = Owner()
        self._closed = False

    def write(self, row: Row) -> None:
        """Append a row as one line.

        Raises:
            SandboxError: The disk is full, or the record was deleted; what exists ends with a whole line.
        """
        line = json.dumps({"kind": _KIND_OF[type(row)], **to_json(row)}, ensure_ascii=True, allow_nan=False)
        self.write_lines(f"{line}\n".encode("ascii"))

    def write_lines(self, lines: bytes) -> None:
        """Append whole lines, such as those of the record of a snapshot.

        Raises:
            SandboxError: As for `write`.
        """
        if not self._owner.is_here:
            raise SandboxError("the record belongs to the process that opened it; use fork() for another one")
        try:
            append(self._file.fileno(), lines)
        except OSError as error:
            advice = "make room on its disk, and leave it where it is"
            raise SandboxError(
                f"the record {self.directory} cannot be written: {error.strerror}; {advice}"
            ) from error

    def lines_from(self, position: int) -> bytes:
        """All lines from a position in the file."""
        return os.pread(self._file.fileno(), self.position - position, position)

    @property
    def position(self) -> int:
        """Position in the file at which the next line will begin."""
        return self._file.tell()

    @property
    def is_full(self) -> bool:
        """Whether the episode must end, because its record could not be read if it were much longer."""
        return self.position >= FULL_RECORD_BYTES

    def close(self, footer: Footer) -> None:
        """Write the footer, unless the disk is full; a later call, or a forked child's, does nothing."""
        if not self._closed and self._owner.is_here:
            self._closed = True
            with contextlib.suppress(SandboxError):
                self.write(footer)
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close(Footer("closed"))


@dataclass(frozen=True, slots=True)
class Record:
    """A record as read back.

    Attributes:
        directory: The folder of the record.
        header: The conditions of the episode: competition, versions, instance, budget, isolation.
        steps: One row per step: action, body of the observation, reward, and so on.
        evaluations: One row per evaluation: split, score, after which step, its folder.
        footer: How the episode ended; None if it has not ended, or was interrupted.
    """

    directory: Path
    header: Header
    steps: tuple[StepRecord, ...]
    evaluations: tuple[EvaluationRecord, ...]
    footer: Footer | None

    def __repr__(self) -> str:
        place = f"{self.header.competition}, instance {self.header.instance}"
        return f"<Record of {place}: {len(self.steps)} steps, {len(self.evaluations)} evaluations>"


def read_record(directory: str | Path) -> Record:
    """Read a record directory.

    Args:
        directory: The folder of the record, which may be somebody else's.

    Raises:
        RecordError: The directory does not hold a record, the record is damaged or too large, or it has a
            version that this library does not know.
    """
    folder = Path(directory)
    try:
        rows = list(read_rows(folder))
    except MemoryError:
        raise RecordError(f"{folder / RECORD_FILE} does not fit into memory") from None
    header = rows[0]
    assert isinstance(header, Header)
    return Record(
        folder,
        header,
        tuple(row for row in rows if isinstance(row, StepRecord)),
        tuple(row for row in rows if isinstance(row, EvaluationRecord)),
        next((row for row in rows if isinstance(row, Footer)), None),
    )


def read_rows(directory: Path, max_bytes: int = MAX_RECORD_BYTES) -> Iterator[Row]:
    """The rows of a record, one after the other; the first is the header.

    Raises:
        RecordError: As for `read_record`.
    """
    path = directory / RECORD_FILE
    try:
        with open_regular(path, max_bytes) as file:
            yield from _rows(path, iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read: {cause(error)}; name a record's folder") from None


def _rows(path: Path, lines: Iterator[bytes]) -> Iterator[Row]:
    number = 0
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE_BYTES:
            raise RecordError(f"{path}, line {number} has more than {MAX_LINE_BYTES:,} bytes")
        if not line.endswith(b"\n"):  # torn by a crash
            if number == 1:
                raise RecordError(f"{path} does not begin with a header")
            return
        entry = _parse(path, number, line)
        if number == 1:
            _check_first(path, entry)
        row = _read_row(path, number, entry)
        if row is not None:
            yield row
    if number == 0:
        raise RecordError(f"{path} does not begin with a header")


def read_line(path: Path, number: int, line: bytes) -> Row | None:
    """The row of one whole line, which `number` names in errors; None if a later version added its kind.

    Raises:
        RecordError: The line is damaged.
    """
    return _read_row(path, number, _parse(path, number, line))


def _check_first(path: Path, entry: Mapping[str, Any]) -> None:
    """Check that a record begins with a header of a version that this library knows."""
    if entry.get("kind") != "header":
        raise RecordError(f"{path} does not begin with a header")
    version = entry.get("version")
    if isinstance(version, int) and version > VERSION:
        raise RecordError(f"{path} has version {str(version)[:20]}; this library reads up to {VERSION}")


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        return parse_object(line)
    except ValueError as error:
        raise RecordError(f"{path}, line {number} is not a JSON object: {str(error)[:200]}") from None


def _read_row(path: Path, number: int, entry: dict[str, Any]) -> Row | None:
    """The row of one line; None if a later version of the library added its kind."""
    cls = ROWS.get(str(entry.get("kind")))
    try:
        return None if cls is None else read_dataclass(cls, entry)
    except KeyError as error:
        raise RecordError(f"{path}, line {number} lacks {error}") from None
    except (TypeError, ValueError, RecursionError, SubmissionError) as error:
        raise RecordError(f"{path}, line {number} is damaged: {str(error)[:200]}") from None


def kept_folder(record: Record, row: EvaluationRecord, name: str) -> Path | None:
    """A folder that was kept of an evaluation, for example its workspace; None if it was not kept.

    A link in its place, or on the way to it, does not count.
    """
    parts = (*row.folder.split("/"), name)
    return record.directory.joinpath(*parts) if is_real_folder(record.directory, *parts) else None


def new_directory(parent: Path) -> Path:
    """A unique path for a new record; paths sort by time."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return parent / f"{stamp}-{os.getpid()}-{secrets.token_hex(4)}"
