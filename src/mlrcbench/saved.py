"""Saved snapshots: read from a file that may come from anywhere.

Nothing in it is trusted or executed. Every name, number and path is checked against what a
snapshot can be, sizes against the file's own length, contents against their digests; only then
is there a `Snapshot`, which still has to fit the environment that restores it. What cannot be
checked is whether it is true: who writes a snapshot by hand can write any score into it. Replay
the record of the restored episode to see whether its actions lead there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mlrcbench.errors import SnapshotError
from mlrcbench.record import EVALUATIONS
from mlrcbench.score import Score
from mlrcbench.snapshot import FORMAT, MAGIC, Files, Snapshot, State
from mlrcbench.tree import MAX_FILE_BYTES, MAX_PATH_BYTES, ROOT, Node, Tree
from mlrcbench.workspace import DATA, OUTPUTS

MAX_MANIFEST_BYTES = 256 << 20
MAX_ENTRIES = 1_000_000
MAX_DEPTH = 80
MAX_LINE_BYTES = 64 << 20
MAX_TOTAL_BYTES = 64 << 30
_KEPT = re.compile(rf"{EVALUATIONS}/[0-9]{{3,9}}-(dev|test)")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FIRST_LINE = re.compile(rf"{MAGIC} ([0-9]{{1,9}}) ([0-9]{{1,12}}) ([0-9a-f]{{64}})\n".encode())
_KEPT_ENTRIES = {"workspace": "folder", "artefacts": "folder", "output.txt": "file"}
_OUTCOMES = ("scored", "invalid", "timeout", "memory")
_LONGEST_TEXT = 10_000_000
_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class SavedFile:
    """The contents in a saved snapshot.

    Attributes:
        path: The file.
        places: Digest -> where its content begins.
    """

    path: Path
    places: Mapping[str, int]

    @contextlib.contextmanager
    def reader(self, digest: str) -> Iterator[int]:
        """A descriptor at the start of a content.

        Raises:
            SnapshotError: The file is gone.
        """
        descriptor = _open(self.path)
        try:
            os.lseek(descriptor, self.places[digest], os.SEEK_SET)
            yield descriptor
        finally:
            os.close(descriptor)


def load_snapshot(path: str | Path) -> Snapshot:
    """Read a snapshot that `Snapshot.save` wrote, here or on another machine.

    The file has to stay where it is until the snapshot is restored.

    Args:
        path: The file; it may be hostile.

    Raises:
        SnapshotError: It is no such file, or a damaged one.
    """
    path = Path(path).absolute()
    descriptor = _open(path)
    try:
        start, manifest = _read_manifest(path, descriptor)
        try:
            state, files = _state(manifest["state"]), _files(manifest)
            contents = files.contents()
        except (KeyError, TypeError, ValueError, RecursionError, OverflowError) as error:
            _refuse(
                path, f"its manifest is not what it should be ({type(error).__name__}: {str(error)[:200]})"
            )
        places: dict[str, int] = {}
        for digest, size in sorted(contents.items()):
            places[digest] = start
            start += size
        if os.fstat(descriptor).st_size != start:
            _refuse(path, f"it should have {start:,} bytes and has {os.fstat(descriptor).st_size:,}")
        for digest, size in sorted(contents.items()):
            if _digest(descriptor, size) != digest:
                _refuse(path, "a content does not have its digest")
    finally:
        os.close(descriptor)
    snapshot = Snapshot(state, files, SavedFile(path, places))
    try:
        _check_journal(snapshot)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        _refuse(path, f"the record in it is not what it should be ({str(error)[:200]})")
    return snapshot


def _open(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SnapshotError(f"{path} is no regular file")
    return descriptor


def _read_manifest(path: Path, descriptor: int) -> tuple[int, dict[str, Any]]:
    """Where the contents begin, and the manifest, intact but not yet checked."""
    try:
        found = _FIRST_LINE.match(os.read(descriptor, 256))
        if found is None:
            _refuse(path, "its first line is not that of a snapshot")
        version, length = int(found[1]), int(found[2])
        if version != FORMAT:
            _refuse(path, f"it has format {version}, and this library reads format {FORMAT}")
        size = os.fstat(descriptor).st_size
        if length > min(size - found.end(), MAX_MANIFEST_BYTES):
            _refuse(path, "its manifest is cut off, or larger than any")
        os.lseek(descriptor, found.end(), os.SEEK_SET)
        data = b""
        while len(data) < length and (part := os.read(descriptor, length - len(data))):
            data += part
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != found[3].decode():
        _refuse(path, "its manifest is damaged")
    try:
        return found.end() + length, _dict(json.loads(data, parse_constant=_no_constant))
    except (ValueError, TypeError, RecursionError):
        _refuse(path, "its manifest is no JSON object")


def _refuse(path: Path, reason: str) -> NoReturn:
    raise SnapshotError(f"{path} is no intact snapshot: {reason}; save it again")


def _digest(descriptor: int, size: int) -> str:
    hasher = hashlib.sha256()
    while size > 0 and (part := os.read(descriptor, min(size, 1 << 20))):
        hasher.update(part)
        size -= len(part)
    return hasher.hexdigest() if size == 0 else ""


def _state(data: Any) -> State:
    data = _dict(data)
    best = data["best"]
    rules, random = _dict(data["rules"]), _dict(data["random"])
    budget = _dict(rules["budget"])
    scores = tuple(_score(score) for score in _list(data["scores"]))
    state = State(
        competition=_text(data["competition"]),
        version=_whole(data["version"]),
        tier=_text(data["tier"]),
        instance=_whole(data["instance"]),
        instance_digest=_text(data["instance_digest"], _DIGEST),
        rules={
            "budget": {
                "steps": _whole(budget["steps"]),
                "seconds": _number(budget["seconds"]),
                "evaluations": _whole(budget["evaluations"]),
            },
            "reward": _text(rules["reward"]),
            "clip": None if rules["clip"] is None else [_number(bound) for bound in _list(rules["clip"])],
            "final": _text(rules["final"]),
        },
        seed=None if data["seed"] is None else _whole(data["seed"], most=2**128),
        steps=_whole(data["steps"], most=budget["steps"] - 1),
        evaluations=_whole(data["evaluations"], most=budget["evaluations"]),
        seconds=_number(data["seconds"], least=0.0),
        scores=scores,
        best=None if best is None else (_number(best[0]), _text(best[1], _KEPT)),
        briefing=_text(data["briefing"]),
        body=_text(data["body"]),
        aside=_text(data["aside"]),
        body_seconds=None if data["body_seconds"] is None else _number(data["body_seconds"], least=0.0),
        info=_dict(data["info"]),
        random={
            "seed": _whole(random["seed"], least=-1, most=2**128),
            "state": _whole(random["state"], most=2**128 - 1),
            "inc": _whole(random["inc"], most=2**128 - 1),
            "has_uint32": _whole(random["has_uint32"], most=1),
            "uinteger": _whole(random["uinteger"], most=2**32 - 1),
        },
        record=_text(data["record"]),
    )
    if len(scores) > state.evaluations or (best is not None and not any(score.valid for score in scores)):
        raise ValueError("scores and evaluations contradict each other")
    return state


def _score(data: Any) -> Score:
    data = _dict(data)
    if data["outcome"] not in _OUTCOMES or data["split"] != "dev":
        raise ValueError("a score has an outcome, and is on dev")
    return Score(
        value=None if data["value"] is None else _number(data["value"]),
        outcome=data["outcome"],
        reason=_text(data["reason"]),
        details={_text(name): _number(value) for name, value in _dict(data["details"]).items()},
        split="dev",
        improvement=None if data["improvement"] is None else _number(data["improvement"]),
        wall_seconds=_number(data["wall_seconds"]),
        cpu_seconds=_number(data["cpu_seconds"]),
        peak_memory_bytes=_whole(data["peak_memory_bytes"]),
        logical_lines=_whole(data["logical_lines"]),
        logical_lines_single=_whole(data["logical_lines_single"]),
    )


def _files(manifest: Mapping[str, Any]) -> Files:
    kept = {_text(name, _KEPT): _tree(rows) for name, rows in _dict(manifest["kept"]).items()}
    outputs = _tree(manifest["outputs"])
    if any(path != ROOT and (node.kind != "file" or "/" in path) for path, node in outputs.items()):
        raise ValueError("outputs are plain files")
    journal = tuple(
        (_text(digest, _DIGEST), _whole(size, most=MAX_FILE_BYTES))
        for digest, size in _list(manifest["journal"])
    )
    files = Files(_tree(manifest["workspace"], views=(DATA, OUTPUTS)), outputs, kept, journal)
    best = manifest["state"]["best"]
    if best is not None and "workspace" not in kept[best[1]]:
        raise ValueError("the best evaluation was not kept")
    for tree in kept.values():
        for path, node in tree.items():
            if "/" not in path and path != ROOT and _KEPT_ENTRIES.get(path) != node.kind:
                raise ValueError(f"{path[:100]!r} is nothing that is kept of an evaluation")
    sizes = files.contents()
    trees = (files.workspace, outputs, *kept.values())
    if sum(node.size for tree in trees for node in tree.values()) > MAX_TOTAL_BYTES:
        raise ValueError(f"it unfolds to more than {MAX_TOTAL_BYTES:,} bytes")
    if any(
        node.kind == "file" and sizes[node.content] != node.size for tree in trees for node in tree.values()
    ) or any(sizes[digest] != size for digest, size in journal):
        raise ValueError("a content has two sizes")
    return files


def _tree(rows: Any, views: tuple[str, ...] = ()) -> Tree:
    """A tree: relative paths, each below a folder that comes before it."""
    tree: dict[str, Node] = {}
    for path, kind, mode, mtime_ns, size, content in _list(rows):
        parts = ["root"] if path == ROOT else _text(path).split("/")
        parent = path.rpartition("/")[0]
        if (
            any(part in ("", ".", "..") or len(os.fsencode(part)) > 255 for part in parts)
            or "\0" in path
            or len(parts) > MAX_DEPTH
            or len(os.fsencode(path)) > MAX_PATH_BYTES
            or path in tree
            or (parent and (parent not in tree or tree[parent].kind != "folder"))
        ):
            raise ValueError(f"{path[:100]!r} is no path of a tree")
        node = Node(
            _text(kind),  # type: ignore[arg-type]
            _whole(mode, most=0o777),
            _whole(mtime_ns, least=-_MOST),
            _whole(size, most=MAX_FILE_BYTES),
            _text(content),
        )
        tree[path] = node
        if len(tree) > MAX_ENTRIES or not _is_node(path, node, views):
            raise ValueError(f"{path[:100]!r} is no entry of a tree")
    return tree


def _is_node(path: str, node: Node, views: tuple[str, ...]) -> bool:
    if path == ROOT and node.kind != "folder":
        return False
    if node.kind == "file":
        return _DIGEST.fullmatch(node.content) is not None
    if node.size:
        return False
    if node.kind == "link":
        return 0 < len(os.fsencode(node.content)) < 4096 and "\0" not in node.content
    if node.kind == "view":
        return path == node.content and path in views
    return node.kind == "folder" and not node.content


def _check_journal(snapshot: Snapshot) -> None:
    """The record's lines: steps from 1 on, and evaluations in folders of theirs."""
    lines = snapshot.read_journal().split(b"\n")
    steps = 0
    for line in lines[:-1]:
        if len(line) > MAX_LINE_BYTES:
            raise ValueError("a line is longer than any")
        entry = _dict(json.loads(line, parse_constant=_no_constant))
        if entry["kind"] == "step":
            steps += 1
            if entry["step"] != steps:
                raise ValueError(f"step {steps} is missing")
        elif entry["kind"] == "evaluation":
            _text(entry["folder"], _KEPT)
        else:
            raise ValueError("a line is neither a step nor an evaluation")
    if lines[-1] or steps != snapshot.step:
        raise ValueError("it ends at another step than the snapshot")


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("an object is missing")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("a list is missing")
    return value


def _text(value: Any, pattern: re.Pattern[str] | None = None) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise TypeError("a text is missing, or too long")
    if pattern is not None and pattern.fullmatch(value) is None:
        raise ValueError(f"{value[:100]!r} cannot stand there")
    return value


def _whole(value: Any, *, least: int = 0, most: int = _MOST) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"a whole number from {least} to {most} is missing")
    return value


def _number(value: Any, *, least: float = -math.inf) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not (math.isfinite(value) and value >= least)
    ):
        raise ValueError("a number is missing")
    return float(value)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
