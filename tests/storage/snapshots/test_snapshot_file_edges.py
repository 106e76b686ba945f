"""Saved snapshots at the edges of what is read: depth, names, sizes, and a record that is cut off."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from mlrcbench import SnapshotError, load_snapshot
from mlrcbench.storage.snapshots.snapshot_file import MAX_DEPTH
from tests.storage.snapshots.test_snapshot_file import parts, saved, write

__all__ = ["saved"]  # a fixture


def _folders(depth: int) -> list[list[Any]]:
    """A folder in a folder, and so on, each after the one that it is in."""
    return [["/".join("d" * level), "folder", 0o755, 0, 0, ""] for level in range(1, depth + 1)]


def test_folders_may_be_as_deep_as_is_said(saved: Path, tmp_path: Path) -> None:
    """A level more is refused, though every folder above it is there."""
    manifest, contents = parts(saved)
    rows = manifest["workspace"]
    manifest["workspace"] = rows + _folders(MAX_DEPTH)
    load_snapshot(write(tmp_path / "deep", manifest, contents))
    manifest["workspace"] = rows + _folders(MAX_DEPTH + 1)
    with pytest.raises(SnapshotError, match="path of a tree"):
        load_snapshot(write(tmp_path / "deeper", manifest, contents))


@pytest.mark.parametrize(("length", "fits"), [(255, True), (256, False)])
def test_a_name_may_be_as_long_as_the_kernel_takes(
    length: int, fits: bool, saved: Path, tmp_path: Path
) -> None:
    """In bytes, not in characters."""
    manifest, contents = parts(saved)
    name = "é" * (length // 2) + "x" * (length % 2)
    manifest["workspace"].append([name, "folder", 0o755, 0, 0, ""])
    path = write(tmp_path / "x", manifest, contents)
    if fits:
        load_snapshot(path)
    else:
        with pytest.raises(SnapshotError, match="intact"):
            load_snapshot(path)


def _with_journal(saved: Path, path: Path, change: Any) -> Path:
    """A snapshot with another record in it, every size and digest in order."""
    manifest, contents = parts(saved)
    sizes = dict(manifest["journal"])
    for tree in (manifest["workspace"], manifest["outputs"], *manifest["kept"].values()):
        sizes |= {row[5]: row[4] for row in tree if row[1] == "file"}
    blobs, start = {}, 0
    for digest, size in sorted(sizes.items()):
        blobs[digest] = contents[start : start + size]
        start += size
    journal = change(b"".join(blobs[digest] for digest, _ in manifest["journal"]))
    named = {
        row[5]
        for tree in (manifest["workspace"], manifest["outputs"], *manifest["kept"].values())
        for row in tree
    }
    blobs = {digest: blob for digest, blob in blobs.items() if digest in named}
    digest = hashlib.sha256(journal).hexdigest()
    blobs[digest] = journal
    manifest["journal"] = [[digest, len(journal)]]
    return write(path, manifest, b"".join(blob for _, blob in sorted(blobs.items())))


def test_the_record_may_lie_in_one_part(saved: Path, tmp_path: Path) -> None:
    """As the other tests below write it."""
    load_snapshot(_with_journal(saved, tmp_path / "x", bytes))


@pytest.mark.parametrize("cut", [1, 2, 10])
def test_a_record_with_a_torn_last_line_is_refused(cut: int, saved: Path, tmp_path: Path) -> None:
    """Also if only the line's end is missing: a restored episode would write into the torn line."""
    with pytest.raises(SnapshotError, match=r"another step|record in it"):
        load_snapshot(_with_journal(saved, tmp_path / "x", lambda journal: journal[:-cut]))


def test_a_record_with_half_a_line_more_is_refused(saved: Path, tmp_path: Path) -> None:
    """All steps are there, and the beginning of another line."""
    with pytest.raises(SnapshotError, match=r"another step|record in it"):
        load_snapshot(_with_journal(saved, tmp_path / "x", lambda journal: journal + b'{"kind": "step"'))


@pytest.mark.parametrize(
    "line", [b"[]", b"{}", b'{"kind": "footer"}', b'{"kind": "step", "step": 9}', b"x", b""]
)
def test_a_line_of_another_kind_is_refused(line: bytes, saved: Path, tmp_path: Path) -> None:
    """Only steps, in order, and evaluations."""
    with pytest.raises(SnapshotError, match="intact"):
        load_snapshot(_with_journal(saved, tmp_path / "x", lambda journal: line + b"\n" + journal))
