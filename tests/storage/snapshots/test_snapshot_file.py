"""Saved snapshots: a file is read strictly, or refused with a message, whatever it contains."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlrcbench
from mlrcbench import Evaluate, Run, SnapshotError, WriteFile, load_snapshot
from mlrcbench.storage.snapshots.snapshot_file import MAGIC
from tests.env.test_research_env import BETTER, make


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved snapshot with files of every kind."""
    folder = tmp_path_factory.mktemp("saved")
    with make(folder) as env:
        env.reset(seed=0)
        for action in (
            Run("mkdir lib; ln -s x lib/link; seq 1 20000"),
            WriteFile("method.py", BETTER),
            Evaluate(),
        ):
            env.step(action)
        env.snapshot().save(folder / "state.snapshot")
    return folder / "state.snapshot"


def parts(saved: Path) -> tuple[dict[str, Any], bytes]:
    """The manifest and the contents."""
    line, _, rest = saved.read_bytes().partition(b"\n")
    length = int(line.split()[2])
    return json.loads(rest[:length]), rest[length:]


def write(path: Path, manifest: Any, contents: bytes) -> Path:
    """A file with a correct first line."""
    data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    head = f"{MAGIC} 1 {len(data)} {hashlib.sha256(data).hexdigest()}\n".encode()
    path.write_bytes(head + data + contents)
    return path


def test_what_was_saved_is_what_is_loaded(saved: Path, tmp_path: Path) -> None:
    """Saving it again gives the same bytes, replaces the old file, and leaves no other file."""
    again = tmp_path / "again"
    again.write_text("old")
    load_snapshot(saved).save(again)
    assert again.read_bytes() == saved.read_bytes()
    assert os.listdir(tmp_path) == ["again"]


def test_the_file_holds_no_secret(saved: Path) -> None:
    """It holds neither the installation's secret nor an answer of the instance."""
    data = saved.read_bytes()
    instance = mlrcbench.get_competition("_template").instance(0)
    assert (mlrcbench.home() / "secret").read_bytes() not in data
    for split in ("dev", "test"):
        assert (instance.answers(split) / "y.npy").read_bytes()[128:] not in data


def _set(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """Change one place of a manifest."""

    def change(manifest: Any) -> None:
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    return change


def _row(*row: Any, tree: str = "workspace") -> Callable[[dict[str, Any]], None]:
    """Add an entry to a tree."""
    return lambda manifest: manifest[tree].append(list(row))


def _kept(*row: Any) -> Callable[[dict[str, Any]], None]:
    """Add an entry to what was kept."""
    return lambda manifest: next(iter(manifest["kept"].values())).append(list(row))


def _rename_kept(name: str) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["kept"][name] = manifest["kept"].pop("evaluations/001-dev")

    return change


HOSTILE = {
    "above": _row("../escape", "folder", 0o755, 0, 0, ""),
    "absolute": _row("/etc/cron.d", "folder", 0o755, 0, 0, ""),
    "dots within": _row("lib/../../escape", "folder", 0o755, 0, 0, ""),
    "no parent": _row("nowhere/x", "folder", 0o755, 0, 0, ""),
    "through a link": _row("lib/link/x", "folder", 0o755, 0, 0, ""),
    "twice": _row("lib", "folder", 0o755, 0, 0, ""),
    "empty name": _row("", "folder", 0o755, 0, 0, ""),
    "NUL": _row("a\0b", "folder", 0o755, 0, 0, ""),
    "no Unicode and no bytes": _row("a\ud800", "folder", 0o755, 0, 0, ""),
    "long name": _row("a" * 256, "folder", 0o755, 0, 0, ""),
    "deep": _row("/".join("a" * 90), "folder", 0o755, 0, 0, ""),
    "root as a link": _row(".", "link", 0, 0, 0, "/etc"),
    "setuid": _row("sh", "folder", 0o4755, 0, 0, ""),
    "device": _row("sda", "device", 0o644, 0, 0, ""),
    "view of anything": _row("etc", "view", 0, 0, 0, "etc"),
    "view by another name": _row("x", "view", 0, 0, 0, "data"),
    "link without text": _row("x", "link", 0, 0, 0, ""),
    "link with NUL": _row("x", "link", 0, 0, 0, "a\0b"),
    "digest as a path": _row("x", "file", 0o644, 0, 3, "../../../etc/passwd"),
    "huge file": _row("x", "file", 0o644, 0, 1 << 50, "0" * 64),
    "negative size": _row("x", "file", 0o644, 0, -1, "0" * 64),
    "no such content": _row("x", "file", 0o644, 0, 3, "0" * 64),
    "short row": _row("x", "file"),
    "time beyond time": _row("x", "folder", 0o755, 1 << 70, 0, ""),
    "link in outputs": _row("step-0001.txt", "link", 0, 0, 0, "/etc/passwd", tree="outputs"),
    "folder in outputs": _row("x", "folder", 0o755, 0, 0, "", tree="outputs"),
    "kept elsewhere": _rename_kept("../../escape"),
    "kept as a link": _kept("other", "link", 0, 0, 0, "/etc"),
    "state missing": _set("state", value=None),
    "steps as text": _set("state", "steps", value="3"),
    "steps as truth": _set("state", "steps", value=True),
    "steps over budget": _set("state", "steps", value=10**6),
    "steps not in the record": _set("state", "steps", value=2),
    "evaluations negative": _set("state", "evaluations", value=-1),
    "evaluations fewer than scores": _set("state", "evaluations", value=0),
    "seconds negative": _set("state", "seconds", value=-1.0),
    "best elsewhere": _set("state", "best", value=[1.0, "../../etc"]),
    "best not kept": _set("state", "best", value=[1.0, "evaluations/009-dev"]),
    "best without a value": _set("state", "best", value=["1", "evaluations/001-dev"]),
    "score on test": _set("state", "scores", 0, "split", value="test"),
    "score without a value": _set("state", "scores", 0, "value", value=None),
    "score as text": _set("state", "scores", 0, "value", value="1"),
    "score of another kind": _set("state", "scores", 0, "outcome", value="excellent"),
    "random as a list": _set("state", "random", value=[]),
    "random out of range": _set("state", "random", "state", value=1 << 200),
    "clip of text": _set("state", "rules", "clip", value=["a", "b"]),
    "journal of anything": _set("journal", value=[["0" * 64, 5]]),
    "trees as text": _set("workspace", value="x"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifests_are_refused(name: str, saved: Path, tmp_path: Path) -> None:
    """No path outside the trees is accepted, and no value that a snapshot cannot have."""
    manifest, contents = parts(saved)
    HOSTILE[name](manifest)
    with pytest.raises(SnapshotError, match="is not an intact snapshot"):
        load_snapshot(write(tmp_path / "x", manifest, contents))


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"state": NaN}',
        b"{" + b'"a":{' * 5_000,
        b"9" * 10_000,
        b"\xff\xfe",
    ],
    ids=range(8),
)
def test_what_is_not_a_manifest_is_refused(manifest: bytes, saved: Path, tmp_path: Path) -> None:
    """The parser refuses it without a crash."""
    with pytest.raises(SnapshotError, match="is not an intact snapshot"):
        load_snapshot(write(tmp_path / "x", manifest, b""))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "first line"),
        (b"PK\3\4", "first line"),
        (b"\x80\4cos\nsystem\n", "first line"),
        (f"{MAGIC} 2 10 {'0' * 64}\n".encode(), "format 2"),
        (f"{MAGIC} 1 {10**11} {'0' * 64}\n".encode(), "cut off, or too large"),
        (f"{MAGIC} 1 5 {'0' * 64}\n12345".encode(), "manifest is damaged"),
    ],
    ids=range(6),
)
def test_other_files_are_refused(line: bytes, message: str, tmp_path: Path) -> None:
    """The first line tells them apart from snapshots."""
    path = tmp_path / "x"
    path.write_bytes(line)
    with pytest.raises(SnapshotError, match=message):
        load_snapshot(path)


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    """A pipe does not block."""
    os.mkfifo(tmp_path / "pipe")
    messages = {"pipe": "not a regular file", ".": "not a regular file", "none": "cannot be read"}
    for path, message in messages.items():
        with pytest.raises(SnapshotError, match=message):
            load_snapshot(tmp_path / path)


def test_a_place_that_cannot_be_written_is_named(env: mlrcbench.ResearchEnv, tmp_path: Path) -> None:
    """The error names it, and nothing is left of the attempt."""
    start = env.snapshot()
    with pytest.raises(SnapshotError, match="cannot be written"):
        start.save(tmp_path / "no" / "folder")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SnapshotError, match="cannot be written"):
        start.save(tmp_path / "folder")
    assert sorted(os.listdir(tmp_path)) == ["folder", "records"]


def test_cut_and_padded_files_are_refused(saved: Path, tmp_path: Path) -> None:
    """The length is known before anything is unpacked."""
    data = saved.read_bytes()
    for changed in (data[:-1], data + b"x", data[: len(data) // 2], data[:100]):
        (tmp_path / "x").write_bytes(changed)
        with pytest.raises(SnapshotError):
            load_snapshot(tmp_path / "x")


@settings(max_examples=40)
@given(data=st.data())
def test_a_flipped_bit_is_detected(data: st.DataObject, saved: Path, tmp_path: Path) -> None:
    """Any flipped bit makes the file invalid."""
    content = bytearray(saved.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(SnapshotError):
        load_snapshot(tmp_path / "x")


def test_a_file_that_changes_after_it_was_loaded_is_detected(saved: Path, tmp_path: Path) -> None:
    """Its contents are checked again when they are used; the running episode continues."""
    path = tmp_path / "x"
    data = bytearray(saved.read_bytes())
    path.write_bytes(data)
    start = load_snapshot(path)
    data[-1] ^= 1
    path.write_bytes(data)
    with make(tmp_path) as env:
        env.reset(seed=0)
        with pytest.raises(SnapshotError, match="damaged"):
            env.restore(start)
        env.step(Run("true"))
        path.unlink()
        with pytest.raises(SnapshotError, match="cannot be read"):
            env.restore(start)
        env.step(Run("true"))


def test_a_workspace_beyond_the_limits_is_refused(saved: Path, tmp_path: Path) -> None:
    """One content under many names can exceed what the competition allows."""
    manifest, contents = parts(saved)
    row = next(row for row in manifest["workspace"] if row[0] == "main.py")
    manifest["workspace"] += [[f"{number}", *row[1:]] for number in range(30_000)]
    start = load_snapshot(write(tmp_path / "x", manifest, contents))
    with make(tmp_path) as env:
        env.reset(seed=0)
        with pytest.raises(SnapshotError, match="larger than the competition allows"):
            env.restore(start)
        env.step(Run("true"))
