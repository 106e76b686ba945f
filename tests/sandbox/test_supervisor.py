"""Parts of the helper processes, one at a time."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from mlrcbench.sandbox.supervisor import disk, messages, seccomp, setup
from mlrcbench.sandbox.supervisor.output import OutputRing


def test_messages_arrive_whole(tmp_path: Path) -> None:
    """Fields, bytes and descriptors arrive together, whatever their size."""
    left, right = socket.socketpair()
    with left, right, (tmp_path / "file").open("w+") as file:
        messages.send(left, {"a": [1, "ü"]}, b"\x00" * 100_000, (file.fileno(),))
        message = messages.receive(right)
        assert message is not None
        assert (message.fields, len(message.blob)) == ({"a": [1, "ü"]}, 100_000)
        os.write(message.descriptors[0], b"hello")
        messages.close_all(message.descriptors)
        messages.send(left, {})
        assert messages.receive(right) is not None
        left.sendall(struct.pack("<II", 10, 0) + b"{")
        left.close()
        assert messages.receive(right) is None
        assert messages.receive(right) is None
    assert (tmp_path / "file").read_text() == "hello"


def test_messages_with_descriptors_stay_apart() -> None:
    """Two messages that were sent at once are read one by one."""
    left, right = socket.socketpair()
    with left, right:
        for _ in range(3):
            messages.send(left, {}, descriptors=(left.fileno(),))
        for _ in range(3):
            message = messages.receive(right)
            assert message is not None
            assert len(message.descriptors) == 1
            messages.close_all(message.descriptors)


@pytest.mark.parametrize("size", [1, 7, 1000, 70_000])
def test_ring(size: int) -> None:
    """Head and tail are exact, however the stream is cut into pieces."""
    stream = bytes(range(256)) * 400
    ring = OutputRing(1000, 0, None)
    for at in range(0, len(stream), size):
        ring.write(stream[at : at + size])
    assert ring.result() == (stream[:500], stream[-500:], len(stream) - 1000)


def test_ring_of_a_short_stream() -> None:
    """Nothing is left out of a stream that fits."""
    ring = OutputRing(10, 0, None)
    ring.write(b"abcdefg")
    head, tail, omitted = ring.result()
    assert (head + tail, omitted) == (b"abcdefg", 0)


def test_usage_counts_blocks_and_entries(tmp_path: Path) -> None:
    """Sparse files count little, and empty files count something."""
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    for number in range(10):
        (tmp_path / f"empty-{number}").touch()
    assert 11 * 4096 <= disk.usage(str(tmp_path)) < 1 << 20


def test_usage_follows_no_link(tmp_path: Path) -> None:
    """A link to a large folder counts as an entry, without the folder; a circle of links ends."""
    (tmp_path / "away").symlink_to("/usr")
    (tmp_path / "circle").symlink_to(".")
    assert disk.usage(str(tmp_path)) < 1 << 20


@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no permission")
@pytest.mark.parametrize("mode", [0o000, 0o200, 0o400, 0o600])
def test_usage_counts_what_its_owner_cannot_reach(tmp_path: Path, mode: int) -> None:
    """A folder without permissions does not hide how large it is."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "large").write_bytes(bytes(1 << 20))
    (tmp_path / "folder").chmod(mode)
    assert disk.usage(str(tmp_path)) > 1 << 20


@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no permission")
def test_usage_of_a_tree_whose_permissions_go(tmp_path: Path) -> None:
    """Folders that lose their permissions while they are walked are counted to the end."""
    folder = tmp_path
    for _ in range(300):
        folder = folder / "d"
    os.makedirs(folder)
    (tmp_path / "d" / "d" / "sibling").mkdir()
    seen = 0
    for seen, _ in enumerate(disk.walk(str(tmp_path)), 1):
        if seen == 290:
            for level in (tmp_path / "d" / "d" / "d" / "d", tmp_path / "d" / "d", tmp_path / "d"):
                level.chmod(0)
    assert seen == 301


def test_empty_keeps_what_links_point_to(tmp_path: Path) -> None:
    """Links are removed, not followed; unreadable folders are removed too."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    inside = tmp_path / "inside"
    (inside / "a" / "b").mkdir(parents=True)
    (inside / "link").symlink_to(outside)
    (inside / "a" / "link").symlink_to(outside / "kept")
    (inside / "a" / "b").chmod(0)
    (inside / "a").chmod(0)
    disk.empty(str(inside), seconds=10)
    assert list(inside.iterdir()) == []
    assert (outside / "kept").exists()


def test_empty_gives_up(tmp_path: Path) -> None:
    """A tree that takes too long raises an error."""
    for number in range(50):
        (tmp_path / f"d{number}" / "e").mkdir(parents=True)
    with pytest.raises(OSError, match="within"):
        disk.empty(str(tmp_path), seconds=0)


def test_give_changes_owners_of_links_themselves(tmp_path: Path) -> None:
    """Root hands over a tree without following its links."""
    if os.geteuid():
        pytest.skip("only root can change owners")
    outside = tmp_path / "outside"
    outside.touch()
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    disk.give(str(inside), 54321)
    assert (inside / "link").lstat().st_uid == 54321
    assert outside.stat().st_uid == 0


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filters_are_well_formed(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every jump lands inside the program, and every path returns."""
    monkeypatch.setattr("mlrcbench.sandbox.supervisor.kernel.ARCHITECTURE", machine)
    code = seccomp.program.__wrapped__(network=False, namespaced=False, memfd=False)
    steps = [struct.unpack("=HBBI", code[at : at + 8]) for at in range(0, len(code), 8)]
    assert 100 < len(steps) < 4096
    for at, (operation, yes, no, _) in enumerate(steps):
        if operation & 7 == 5:
            assert at + 1 + max(yes, no) < len(steps)
    assert steps[-1][0] == 6


def test_unknown_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a table of the machine's calls no filter is made."""
    monkeypatch.setattr("mlrcbench.sandbox.supervisor.kernel.ARCHITECTURE", "riscv64")
    with pytest.raises(OSError, match="riscv64"):
        seccomp.program.__wrapped__(network=False, namespaced=False, memfd=False)


def test_own_users_differ() -> None:
    """Two supervisors never share a user number."""
    assert len({setup.own_uid(seed) for seed in range(1, 1000)}) == 999
