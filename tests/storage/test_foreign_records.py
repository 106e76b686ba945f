"""Records and snapshots of strangers: whatever they hold, only `RecordError` and `SnapshotError` come out.

A seeded generator changes a real record and a real snapshot; a few cases are written by hand. Each is read
with a limit on memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mlrcbench
from mlrcbench import Evaluate, RecordError, Run, SnapshotError, Submit, WriteFile, load_snapshot
from mlrcbench.runs.changes import changes
from mlrcbench.runs.exports import export_chat, export_inspect, read_episodes
from mlrcbench.storage.record import read_record
from tests.env.test_research_env import BETTER, make
from tests.storage.snapshots.test_snapshot_file import parts, write

ROUNDS = 400
_ODD: list[Any] = [
    None, True, -1, 0, 2**63, 10**400, 1e308, "", "x", "../../etc", "\ud800", "\0", [], {}, [[]], {"a": {}},
    "evaluations/../x", "x" * 100_000, ["x"] * 1_000, float("nan"), float("inf"),
]  # fmt: skip


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a record, `record`, and a snapshot of the same episode, `snapshot`."""
    folder = tmp_path_factory.mktemp("real")
    with make(folder) as env:
        env.reset(seed=0)
        for action in (Run("seq 1 20000"), WriteFile("method.py", BETTER), Evaluate()):
            env.step(action)
        env.snapshot().save(folder / "snapshot")
        env.step(Submit())
        assert env.record is not None
        env.record.rename(folder / "record")
    return folder


@pytest.fixture
def copy(real: Path, tmp_path: Path) -> Path:
    """A record for a test to damage."""
    path = tmp_path / "copy"
    path.mkdir()
    (path / "record.jsonl").write_bytes((real / "record" / "record.jsonl").read_bytes())
    return path


@contextlib.contextmanager
def little_memory(megabytes: int) -> Iterator[None]:
    """Let this process take only so much memory more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * os.sysconf("SC_PAGE_SIZE") + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def use(path: Path, out: Path) -> None:
    """Whatever reads records without running anything."""
    record = read_record(path)
    changes(record)
    episodes = read_episodes([path])
    export_chat(episodes, out / "chat.jsonl")
    export_inspect(episodes, out / "logs")


def changed(value: Any, generator: random.Random) -> Any:
    """A JSON value with one place changed."""
    if isinstance(value, dict | list) and value and generator.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key, way = generator.choice(keys), generator.random()
        copy = dict(value) if isinstance(value, dict) else list(value)
        if way < 0.1:
            del copy[key]
        else:
            copy[key] = changed(copy[key], generator)
        return copy
    return generator.choice(_ODD)


def test_a_damaged_record_is_read_or_refused(real: Path, copy: Path, tmp_path: Path) -> None:
    """Values of other kinds in a line, and bytes of the file; the same ones in every test run."""
    lines = (real / "record" / "record.jsonl").read_bytes().splitlines()
    generator, refused = random.Random(0), 0
    for number in range(ROUNDS):
        damaged = list(lines)
        place = generator.randrange(len(lines))
        if number % 2:
            damaged[place] = json.dumps(changed(json.loads(lines[place]), generator)).encode()
        else:
            text = bytearray(lines[place])
            for _ in range(generator.randint(1, 4)):
                text[generator.randrange(len(text))] = generator.choice(b'0"{}[],\\\xff\0e-')
            damaged[place] = bytes(text)
        (copy / "record.jsonl").write_bytes(b"\n".join(damaged) + b"\n")
        try:
            use(copy, tmp_path)
        except RecordError:
            refused += 1
    assert refused > ROUNDS // 4


def test_a_damaged_snapshot_is_read_or_refused(real: Path, tmp_path: Path) -> None:
    """Also one whose checksums are right."""
    manifest, contents = parts(real / "snapshot")
    generator, refused = random.Random(0), 0
    for _ in range(ROUNDS):
        path = write(tmp_path / "x", changed(manifest, generator), contents)
        try:
            load_snapshot(path)
        except SnapshotError:
            refused += 1
    assert refused > ROUNDS // 4


HUGE: dict[str, Callable[[], bytes]] = {
    "deep": lambda: b'{"a": ' * 200_000,
    "deep list": lambda: b"[" * 3_000_000 + b"]" * 3_000_000 + b"\n",
    "many values": lambda: b'{"a": [' + b"[]," * 20_000_000 + b"0]}\n",
    "long number": lambda: b'{"a": ' + b"9" * 5_000_000 + b"}\n",
    "infinite": lambda: b'{"a": 1e999}\n',
    "long line": lambda: b"x" * (65 << 20),
    "open string": lambda: b'{"' + b'\\"' * 4_000_000 + b"," * 3_000_000,
    "zeros": lambda: b"\0" * 1_000_000,
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_line_is_refused_within_bounds(name: str, real: Path, copy: Path) -> None:
    """A line after the header, with 800 MB of memory."""
    head = (real / "record" / "record.jsonl").read_bytes().splitlines(keepends=True)[0]
    (copy / "record.jsonl").write_bytes(head + HUGE[name]() + b"\n")
    with little_memory(800), pytest.raises(RecordError):
        read_record(copy)


OTHERS: dict[str, Callable[[Path], None]] = {
    "link": lambda path: path.symlink_to("/etc/passwd"),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
}


@pytest.mark.parametrize("kind", OTHERS)
def test_only_a_regular_file_is_read(kind: str, copy: Path, tmp_path: Path) -> None:
    """Anything else is refused at once."""
    (copy / "record.jsonl").unlink()
    OTHERS[kind](copy / "record.jsonl")
    with pytest.raises(RecordError, match="cannot be read"):
        use(copy, tmp_path)


@pytest.mark.parametrize(
    "folder", ["../secret", "/etc", "evaluations/001-dev/../../..", "evaluations/x", "."]
)
def test_a_folder_leads_nowhere_else(folder: str, real: Path, copy: Path) -> None:
    """The folder of an evaluation has one form."""
    text = (real / "record" / "record.jsonl").read_text()
    (copy / "record.jsonl").write_text(text.replace("evaluations/001-dev", folder))
    with pytest.raises(RecordError, match="damaged"):
        read_record(copy)


@pytest.mark.parametrize("part", ["evaluations", "evaluations/002-test", "evaluations/002-test/workspace"])
def test_no_part_of_the_path_to_what_was_kept_is_a_link(part: str, copy: Path, tmp_path: Path) -> None:
    """A report of a stranger's record shows nothing of this machine."""
    secret = tmp_path / "secret"
    for folder in (secret, secret / "workspace", secret / "002-test" / "workspace"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "method.py").write_text("canary\n")
    target = copy / part
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(secret)
    assert "canary" not in changes(read_record(copy))
    target.unlink()
    (copy / "evaluations" / "002-test" / "workspace").mkdir(parents=True)
    (copy / "evaluations" / "002-test" / "workspace" / "method.py").write_text("canary\n")
    assert "canary" in changes(read_record(copy))


def test_a_record_does_not_choose_the_sandbox(copy: Path, tmp_path: Path) -> None:
    """A stranger's commands run confined, whatever the header says."""
    lines = (copy / "record.jsonl").read_text().splitlines()
    header, step = json.loads(lines[0]), json.loads(lines[1])
    header["sandbox"] = "process"
    step["action"] = {"action": "run", "command": f"touch {tmp_path}/escaped; echo done"}
    (copy / "record.jsonl").write_text("\n".join([json.dumps(header), json.dumps(step), ""]))
    (tmp_path / "replays").mkdir()
    tmp_path.chmod(0o777)
    replay = mlrcbench.replay(copy, records=tmp_path / "replays")
    assert not (tmp_path / "escaped").exists()
    assert read_record(replay.record).header.isolation.tier != "none"


def test_one_bad_record_harms_no_other(real: Path, copy: Path, tmp_path: Path, capsys: Any) -> None:
    """The export names it, and writes the others."""
    from mlrcbench.cli import main

    (copy / "record.jsonl").write_text("nonsense\n")
    out = tmp_path / "chat.jsonl"
    assert main(["export", "chat", str(copy), str(real / "record"), "--out", str(out)]) == 1
    assert str(copy) in capsys.readouterr().err
    assert len(out.read_text().splitlines()) == 1


def test_a_snapshot_names_a_part_of_the_record_once(real: Path, tmp_path: Path) -> None:
    """A small file does not become a large one in memory."""
    manifest, contents = parts(real / "snapshot")
    manifest["journal"] *= 1000
    with pytest.raises(SnapshotError, match="twice"):
        load_snapshot(write(tmp_path / "x", manifest, contents))


@pytest.mark.parametrize("name", ["step-0004.txt", "job-2.txt", "anything"])
def test_a_snapshot_holds_no_output_of_later_steps(name: str, real: Path, tmp_path: Path) -> None:
    """It would be in the way of that output."""
    manifest, contents = parts(real / "snapshot")
    (row,) = [row for row in manifest["outputs"] if row[0] == "step-0001.txt"]
    manifest["outputs"].append([name, *row[1:]])
    with pytest.raises(SnapshotError, match="an output"):
        load_snapshot(write(tmp_path / "x", manifest, contents))


def test_a_snapshot_keeps_evaluations_in_their_order(real: Path, tmp_path: Path) -> None:
    """A folder planted ahead would be in the way of the next evaluation, and many would fill the disk."""
    manifest, contents = parts(real / "snapshot")
    manifest["kept"]["evaluations/002-dev"] = manifest["kept"]["evaluations/001-dev"]
    load_snapshot(write(tmp_path / "x", manifest, contents))
    manifest["kept"]["evaluations/004-dev"] = manifest["kept"]["evaluations/001-dev"]
    with pytest.raises(SnapshotError, match="numbered"):
        load_snapshot(write(tmp_path / "x", manifest, contents))
    one = manifest["kept"]["evaluations/001-dev"]
    manifest["kept"] = {f"evaluations/{number:03d}-dev": one for number in range(1, 101)}
    with pytest.raises(SnapshotError, match="than its steps allow"):
        load_snapshot(write(tmp_path / "x", manifest, contents))


def test_the_lines_in_a_snapshot_are_rows_of_a_record(real: Path, tmp_path: Path) -> None:
    """Otherwise the record of the restored episode could not be read."""
    from tests.storage.snapshots.test_snapshot_file_edges import _with_journal

    def without_a_body(journal: bytes) -> bytes:
        return journal.replace(b'"body"', b'"bodies"', 1)

    with pytest.raises(SnapshotError, match="record in it"):
        load_snapshot(_with_journal(real / "snapshot", tmp_path / "x", without_a_body))
