"""The file of a saved snapshot: written, and read without trusting it.

The file holds a line with the length and the SHA-256 of the JSON text that follows, the JSON text,
and then the contents, sorted by digest.

Nothing in the file is trusted or executed. Every name, number and path is checked against what a
snapshot can be, sizes against the length of the file, contents against their digests; the state that
results must also fit the environment that restores it. Whether a snapshot is true cannot be checked:
anyone who writes one by hand can write any score into it. Replay the record of the restored episode
to see whether its actions lead there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mlrcbench.errors import SnapshotError, SubmissionError
from mlrcbench.storage.descriptors import MAX_PATH_BYTES
from mlrcbench.storage.layout import DATA, OUTPUTS
from mlrcbench.storage.record import EvaluationRecord, StepRecord
from mlrcbench.storage.snapshots.manifest import MAX_FILE_BYTES, ROOT, Manifest, Node
from mlrcbench.storage.snapshots.state import DIGEST, KEPT, ContentSource, EpisodeState, Files
from mlrcbench.storage.strict import (
    MAX_INTEGER,
    json_integer,
    json_list,
    json_object,
    json_text,
    parse_object,
    read_dataclass,
    to_json,
)
from mlrcbench.storage.trees import copy_bytes

MAGIC = "mlrcbench-snapshot"
FORMAT = 1
MAX_MANIFEST_BYTES = 256 << 20
MAX_ENTRIES = 1_000_000
MAX_DEPTH = 80
MAX_LINE_BYTES = 64 << 20
MAX_TOTAL_BYTES = 64 << 30
_FIRST_LINE = re.compile(rf"{MAGIC} ([0-9]{{1,9}}) ([0-9]{{1,12}}) ([0-9a-f]{{64}})\n".encode())
MAX_VALUES = 8_000_000
_HOST_EVALUATIONS = 16
_OUTPUT = re.compile(r"step-(?P<step>[0-9]{4,9})\.txt|job-(?P<job>[0-9]{1,9})\.txt")
_KEPT_ENTRIES = {"workspace": "folder", "artefacts": "folder", "output.txt": "file"}


@dataclass(frozen=True, slots=True)
class SavedFile:
    """The contents in a saved snapshot.

    Attributes:
        path: The file.
        places: Digest -> position in the file at which its content begins.
    """

    path: Path
    places: Mapping[str, int]

    @contextlib.contextmanager
    def reader(self, digest: str) -> Iterator[int]:
        """A descriptor, positioned at the start of a content.

        Raises:
            SnapshotError: The file is missing.
        """
        descriptor = _open(self.path)
        try:
            os.lseek(descriptor, self.places[digest], os.SEEK_SET)
            yield descriptor
        finally:
            os.close(descriptor)


def write_snapshot_file(path: Path, state: EpisodeState, files: Files, source: ContentSource) -> None:
    """Write a snapshot with all its contents into a new file.

    Raises:
        SnapshotError: A content is missing.
        OSError: The file cannot be written.
    """
    manifest = json.dumps(_manifest(state, files), ensure_ascii=True, allow_nan=False).encode("ascii")
    digest = hashlib.sha256(manifest).hexdigest()
    with path.open("xb", buffering=0) as file:
        file.write(f"{MAGIC} {FORMAT} {len(manifest)} {digest}\n".encode("ascii") + manifest)
        for content, size in sorted(files.contents().items()):
            with source.reader(content) as descriptor:
                if copy_bytes(descriptor, file.fileno(), size) != size:
                    raise SnapshotError("a stored file is shorter than it was; take the snapshot again")
        os.fsync(file.fileno())


def _manifest(state: EpisodeState, files: Files) -> dict[str, Any]:
    return {
        "state": to_json(state),
        "workspace": _rows(files.workspace),
        "outputs": _rows(files.outputs),
        "kept": {name: _rows(tree) for name, tree in files.kept.items()},
        "journal": [list(part) for part in files.journal],
    }


def _rows(tree: Manifest) -> list[list[Any]]:
    return [[path, *node] for path, node in tree.items()]


def read_snapshot_file(path: Path) -> tuple[EpisodeState, Files, SavedFile]:
    """Read a saved snapshot, which need not be trusted.

    Raises:
        SnapshotError: The file is not a snapshot, or is damaged.
    """
    descriptor = _open(path)
    try:
        start, manifest = _read_manifest(path, descriptor)
        try:
            state, files = _state(manifest["state"]), _files(manifest)
            _check_files(state, files)
            contents = files.contents()
        except (LookupError, TypeError, ValueError, RecursionError, OverflowError, SubmissionError) as error:
            _refuse(path, f"its manifest is not valid ({type(error).__name__}: {str(error)[:200]})")
        places: dict[str, int] = {}
        for digest, size in sorted(contents.items()):
            places[digest] = start
            start += size
        if os.fstat(descriptor).st_size != start:
            _refuse(path, f"it should have {start:,} bytes and has {os.fstat(descriptor).st_size:,}")
        for digest, size in sorted(contents.items()):
            if _digest(descriptor, size) != digest:
                _refuse(path, "a content is damaged")
    finally:
        os.close(descriptor)
    source = SavedFile(path, places)
    try:
        _check_journal(source, files.journal, state.steps)
    except (LookupError, TypeError, ValueError, RecursionError, SubmissionError) as error:
        _refuse(path, f"the record in it is not valid ({str(error)[:200]})")
    return state, files, source


def _open(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SnapshotError(f"{path} is not a regular file")
    return descriptor


def _read_manifest(path: Path, descriptor: int) -> tuple[int, dict[str, Any]]:
    """The position at which the contents begin, and the manifest, intact but not yet checked."""
    try:
        first_line = _FIRST_LINE.match(os.read(descriptor, 256))
        if first_line is None:
            _refuse(path, "its first line is not that of a snapshot")
        version, length = int(first_line[1]), int(first_line[2])
        if version != FORMAT:
            _refuse(path, f"it has format {version}, and this library reads format {FORMAT}")
        size = os.fstat(descriptor).st_size
        if length > min(size - first_line.end(), MAX_MANIFEST_BYTES):
            _refuse(path, "its manifest is cut off, or too large")
        os.lseek(descriptor, first_line.end(), os.SEEK_SET)
        data = b""
        while len(data) < length and (part := os.read(descriptor, length - len(data))):
            data += part
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != first_line[3].decode():
        _refuse(path, "its manifest is damaged")
    try:
        return first_line.end() + length, parse_object(data, MAX_VALUES)
    except ValueError:
        _refuse(path, "its manifest is not a JSON object")


def _refuse(path: Path, reason: str) -> NoReturn:
    raise SnapshotError(f"{path} is not an intact snapshot: {reason}; save it again")


def _digest(descriptor: int, size: int) -> str:
    hasher = hashlib.sha256()
    while size > 0 and (part := os.read(descriptor, min(size, 1 << 20))):
        hasher.update(part)
        size -= len(part)
    return hasher.hexdigest() if size == 0 else ""


def _state(data: Any) -> EpisodeState:
    state = read_dataclass(EpisodeState, data)
    state.check()
    return state


def _files(manifest: Mapping[str, Any]) -> Files:
    kept = {json_text(name, KEPT): _tree(rows) for name, rows in json_object(manifest["kept"]).items()}
    outputs = _tree(manifest["outputs"])
    if any(path != ROOT and (node.kind != "file" or "/" in path) for path, node in outputs.items()):
        raise ValueError("an output is not a plain file")
    journal = tuple(
        (json_text(digest, DIGEST), json_integer(size, most=MAX_FILE_BYTES))
        for digest, size in json_list(manifest["journal"])
    )
    files = Files(_tree(manifest["workspace"], views=(DATA, OUTPUTS)), outputs, kept, journal)
    for tree in kept.values():
        for path, node in tree.items():
            if "/" not in path and path != ROOT and _KEPT_ENTRIES.get(path) != node.kind:
                raise ValueError(f"{path[:100]!r} is not a file that is kept of an evaluation")
    sizes = files.contents()
    trees = (files.workspace, outputs, *kept.values())
    if sum(node.size for tree in trees for node in tree.values()) > MAX_TOTAL_BYTES:
        raise ValueError(f"it unfolds to more than {MAX_TOTAL_BYTES:,} bytes")
    if any(
        node.kind == "file" and sizes[node.content] != node.size for tree in trees for node in tree.values()
    ) or any(sizes[digest] != size for digest, size in journal):
        raise ValueError("a content has two sizes")
    return files


def _check_files(state: EpisodeState, files: Files) -> None:
    """Check that an episode in this state can have left these files, and not those of later steps."""
    if state.best is not None and "workspace" not in files.kept[state.best[1]]:
        raise ValueError("the best evaluation was not kept")
    numbers = sorted(int(name.partition("/")[2].partition("-")[0]) for name in files.kept)
    if numbers != list(range(1, len(numbers) + 1)):
        raise ValueError("the evaluations that were kept are not numbered from 1")
    if len(numbers) > state.evaluations + state.steps + _HOST_EVALUATIONS:
        raise ValueError("more evaluations were kept than its steps allow")
    names = [_OUTPUT.fullmatch(path) for path in files.outputs if path != ROOT]
    jobs = sum(name is not None and name["job"] is not None for name in names)
    for name in names:
        if name is None or int(name["step"] or 0) > state.steps or int(name["job"] or 0) > jobs:
            raise ValueError("an output is not that of a step or a job of this episode")
    if len({digest for digest, _ in files.journal}) < len(files.journal):
        raise ValueError("a part of its record is there twice")


def _tree(rows: Any, views: tuple[str, ...] = ()) -> Manifest:
    """A tree: relative paths, each below a folder that comes before it."""
    tree: dict[str, Node] = {}
    for path, kind, mode, mtime_ns, size, content in json_list(rows):
        parts = ["root"] if path == ROOT else json_text(path).split("/")
        parent = path.rpartition("/")[0]
        if (
            any(part in ("", ".", "..") or len(os.fsencode(part)) > 255 for part in parts)
            or "\0" in path
            or len(parts) > MAX_DEPTH
            or len(os.fsencode(path)) > MAX_PATH_BYTES
            or path in tree
            or (parent and (parent not in tree or tree[parent].kind != "folder"))
        ):
            raise ValueError(f"{path[:100]!r} is not a valid path of a tree")
        node = Node(
            json_text(kind),  # type: ignore[arg-type]
            json_integer(mode, most=0o777),
            json_integer(mtime_ns, least=-MAX_INTEGER),
            json_integer(size, most=MAX_FILE_BYTES),
            json_text(content),
        )
        tree[path] = node
        if len(tree) > MAX_ENTRIES or not _is_node(path, node, views):
            raise ValueError(f"{path[:100]!r} is not a valid entry of a tree")
    return tree


def _is_node(path: str, node: Node, views: tuple[str, ...]) -> bool:
    if path == ROOT and node.kind != "folder":
        return False
    if node.kind == "file":
        return DIGEST.fullmatch(node.content) is not None
    if node.size:
        return False
    if node.kind == "link":
        return 0 < len(os.fsencode(node.content)) < 4096 and "\0" not in node.content
    if node.kind == "view":
        return path == node.content and path in views
    return node.kind == "folder" and not node.content


def _check_journal(source: SavedFile, journal: Sequence[tuple[str, int]], last_step: int) -> None:
    """Check that the record's lines are steps, numbered from 1, and evaluations with their folders."""
    steps = 0
    for entry in _journal_entries(source, journal):
        if entry.get("kind") == "step":
            steps += 1
            if read_dataclass(StepRecord, entry).step != steps:
                raise ValueError(f"step {steps} is missing")
        elif entry.get("kind") == "evaluation":
            read_dataclass(EvaluationRecord, entry)
        else:
            raise ValueError("a line is neither a step nor an evaluation")
    if steps != last_step:
        raise ValueError("it does not end at the step of the snapshot")


def _journal_entries(source: SavedFile, journal: Sequence[tuple[str, int]]) -> Iterator[dict[str, Any]]:
    """The entries of a record, of which one line at a time is in memory."""
    for digest, size in journal:
        unread = size
        with source.reader(digest) as descriptor, open(descriptor, "rb", closefd=False) as file:
            while unread > 0:
                line = file.readline(min(unread, MAX_LINE_BYTES))
                if not line.endswith(b"\n"):
                    raise ValueError("a line of it is too long, or torn")
                unread -= len(line)
                yield parse_object(line)
