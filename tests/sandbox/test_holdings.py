"""Limits hold for what no process, and no folder, shows; a neighbour notices nothing of it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlrcbench.errors import SandboxError
from mlrcbench.sandbox import Limits, Policy, Sandbox, fork_client
from mlrcbench.sandbox.isolation import counts_memory
from mlrcbench.sandbox.supervisor import control_group, disk
from tests.sandbox.conftest import Run, open_or_skip, text
from tests.sandbox.test_commands import _supervisor_of as supervisor_of
from tests.sandbox.test_policy import script

LITTLE_MEMORY = Limits(seconds=20, memory_bytes=128 << 20)
LITTLE_DISK = Limits(seconds=20, workspace_bytes=16 << 20)
SHARED = """
import ctypes, mmap, os, time
maps = []
for _ in range(16):
    maps.append(mmap.mmap(-1, 16 << 20))
    {fill}
time.sleep(15)
"""
FILLS = {
    "not in the page table": "maps[-1].write(bytes(16 << 20)); maps[-1].madvise(mmap.MADV_DONTNEED)",
    "written by a child": "os.fork() or (maps[-1].write(bytes(16 << 20)), os._exit(0)); os.wait()",
    "hardly mapped": (
        "address = ctypes.addressof(ctypes.c_char.from_buffer(maps[-1])); maps[-1].write(bytes(16 << 20)); "
        "ctypes.CDLL(None).munmap(ctypes.c_void_p(address + 4096), ctypes.c_size_t((16 << 20) - 4096))"
    ),
}


@pytest.fixture
def neighbour(tier: str, folder: Path) -> Iterator[Sandbox]:
    """An honest sandbox of the same tier."""
    (folder / "neighbour").mkdir()
    with open_or_skip(tier, Policy(folder / "neighbour")) as opened:
        yield opened


@pytest.mark.parametrize("fill", FILLS)
def test_shared_memory(run: Run, neighbour: Sandbox, fill: str) -> None:
    """Shared memory counts as long as it exists."""
    if fill == "hardly mapped" and not counts_memory():
        pytest.skip("only a control group, or root, can see it")
    assert run(script(SHARED.format(fill=FILLS[fill])), LITTLE_MEMORY).ending == "memory"
    assert text(neighbour.run("echo fine", LITTLE_MEMORY)) == "fine\n"


LEADERLESS = """
import ctypes, os, threading, time
def work():
    time.sleep(0.2)
    {action}
    time.sleep(15)
    os._exit(0)
if os.fork() == 0:
    threading.Thread(target=work).start()
    ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)
time.sleep(15)
"""


def test_memory_without_a_main_thread(run: Run) -> None:
    """A process whose main thread has ended has a size too; RLIMIT_DATA does not see shared memory."""
    action = "import mmap; kept = mmap.mmap(-1, 200 << 20); [kept.write(bytes(20 << 20)) for _ in range(10)]"
    assert run(script(LEADERLESS.format(action=action)), LITTLE_MEMORY).ending == "memory"


@pytest.mark.parametrize("kind", ["uid", "landlock"])
def test_a_lost_supervisor_leaves_no_thread(kind: str, space: Path) -> None:
    """When a supervisor is killed, processes whose main thread has ended are ended too."""
    beat = "[(open('beat', 'a').write('.'), time.sleep(0.05)) for _ in range(400)]"
    (space / "late.py").write_text(LEADERLESS.format(action=beat))
    command = f"python -S late.py & sleep 20.{os.getpid()}"
    with open_or_skip(kind, Policy(space)) as sandbox:

        def kill() -> None:
            while not (space / "beat").exists():
                time.sleep(0.1)
            os.kill(supervisor_of(command), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(SandboxError, match="supervisor"):
            sandbox.run(f"{command}; true", Limits(seconds=20))
        killer.join()
    time.sleep(2)
    size = (space / "beat").stat().st_size
    time.sleep(1)
    assert (space / "beat").stat().st_size == size


def test_sockets(run: Run) -> None:
    """What sockets may hold counts as memory, and they cannot be made to hold more."""
    code = """
    import socket, time
    pairs = []
    for _ in range(400):
        pairs.append(socket.socketpair())
        pairs[-1][0].setblocking(False)
        try:
            while True: pairs[-1][0].send(bytes(32768))
        except BlockingIOError:
            pass
    time.sleep(15)
    """
    assert run(script(code), LITTLE_MEMORY).ending == "memory"
    code = """
    import socket
    ours, _ = socket.socketpair()
    before = ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 12)
    print(before == ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))
    """
    assert text(run(script(code), LITTLE_MEMORY)) == "True\n"


FILES = """
import os, time
kept = []
for number in range(32):
    file = os.open(f"file-{number}", os.O_RDWR | os.O_CREAT)
    os.unlink(f"file-{number}")
    os.write(file, os.urandom(4 << 20))
"""


def test_files_that_are_only_mapped(run: Run) -> None:
    """A file without a name counts with the workspace while it is mapped; a Python map would keep it open."""
    code = (
        "import ctypes; size = ctypes.c_size_t(4 << 20)"
        + FILES
        + "    ctypes.CDLL(None).mmap(None, size, 1, 1, file, ctypes.c_long(0)); os.close(file)\n"
        + "time.sleep(15)"
    )
    assert run(script(code), LITTLE_DISK).ending == "disk"


def test_files_without_a_main_thread(run: Run) -> None:
    """Files that a process has open count when its main thread has ended."""
    action = f"exec({FILES + '    kept.append(file)'!r})"
    assert run(script(LEADERLESS.format(action=action)), LITTLE_DISK).ending == "disk"


def test_shared_memory_of_libraries_is_no_file(run: Run) -> None:
    """Tensors in shared memory are files without a name in /dev/shm; they are no part of the workspace."""
    code = """
    import mmap, os, time
    kept = []
    for number in range(3):
        file = os.open("/dev/shm/tensor-%d" % os.getpid(), os.O_RDWR | os.O_CREAT)
        os.unlink("/dev/shm/tensor-%d" % os.getpid())
        os.write(file, bytes(12 << 20))
        kept.append(mmap.mmap(file, 12 << 20))
    time.sleep(1.5)
    print("fine")
    """
    assert text(run(script(code), LITTLE_DISK)) == "fine\n"


def test_many_empty_files(run: Run, neighbour: Sandbox) -> None:
    """Empty files in private folders have a bound, and are removed in time."""
    code = """
    import os
    for number in range(1_000_000):
        os.close(os.open(f"{os.environ['TMPDIR']}/{number}", os.O_WRONLY | os.O_CREAT))
    """
    result = run(script(code), LITTLE_DISK)
    assert result.ending != "exited" or b"No space left" in result.head + result.tail
    assert text(run("find $TMPDIR -maxdepth 1 -type f | wc -l")) == "0\n"
    assert text(neighbour.run("echo fine", LITTLE_DISK)) == "fine\n"


def test_branches_on_many_levels(run: Run, space: Path) -> None:
    """However many files this process may open, a tree with branches on each level can be measured."""
    code = "import os\nfor _ in range(600):\n    os.mkdir('a'); os.mkdir('b'); os.chdir('b')\n"
    assert run(script(code)).ending == "exited"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, hard))
    try:
        assert 1200 * 4096 <= disk.usage(str(space)) < 1 << 30
        disk.empty(str(space), seconds=60)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_tree_that_moves_is_unreadable(tmp_path: Path) -> None:
    """A folder that was moved elsewhere while it was walked does not lead out of the tree."""
    folder = tmp_path / "root"
    for _ in range(200):
        folder = folder / "d"
    os.makedirs(folder)
    (tmp_path / "root" / "d" / "d" / "sibling").mkdir()
    with pytest.raises(disk.UnreadableError):
        _walk_and_move(tmp_path / "root", tmp_path / "elsewhere")


def _walk_and_move(root: Path, elsewhere: Path) -> None:
    """Walk a deep tree, and move its third level away when the walk is far below."""
    for depth, _ in enumerate(disk.walk(str(root))):
        if depth == 190:
            os.rename(root / "d" / "d" / "d", elsewhere)


def test_the_time_limit_holds_with_many_files_open(run: Run) -> None:
    """Looking at thousands of descriptors does not delay the end of a command."""
    code = """
    import os, time
    for _ in range(100):
        if os.fork() == 0:
            for _ in range(1000):
                os.dup(0)
            time.sleep(30)
    time.sleep(30)
    """
    result = run(script(code), Limits(seconds=3, processes=200))
    assert result.ending == "timeout"
    assert result.wall_seconds < 4.5


@pytest.mark.skipif(os.geteuid() == 0, reason="the kernel does not count them for root")
def test_descriptors_in_messages(sandbox: Sandbox, neighbour: Sandbox) -> None:
    """A command that fills messages with descriptors leaves the host process enough to send its own."""
    code = """
    import array, socket, time
    ends = []
    try:
        while True:
            ends.append(socket.socketpair())
            ends[-1][0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 250))])
    except OSError:
        open("full", "w").close()
    time.sleep(5)
    """
    thread = threading.Thread(target=sandbox.run, args=(script(code), Limits(seconds=20)))
    thread.start()
    time.sleep(2)
    assert text(neighbour.run("echo fine", Limits(seconds=20))) == "fine\n"
    thread.join()


def test_the_host_may_open_as_many_files_as_it_can() -> None:
    """The first sandbox raises this process's own limit, as far as that is allowed."""
    code = """
    import resource
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    from mlrcbench.sandbox.fork_client import connect, forget_fork_server, _fork_supervisor
    _fork_supervisor()
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"


def test_control_groups_are_removed(space: Path) -> None:
    """A sandbox that is closed leaves no control group."""
    if not counts_memory():
        pytest.skip("no control group can be made here")
    before = _groups()
    with open_or_skip("strong", Policy(space)) as sandbox:
        assert sandbox.run("true", LITTLE_MEMORY).ending == "exited"
        own = _groups() - before
    assert own
    deadline = time.monotonic() + 5
    while own & _groups() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not own & _groups()


def _groups() -> set[str]:
    """The control groups of this process's sandboxes; the tests of other processes make some, too."""
    server = fork_client._state.server
    prefix = f"mlrcbench-{server.process.pid}-" if server else "mlrcbench-"
    parents = control_group.parents()
    names = {name for parent in parents for name in os.listdir(parent.folder) if name.startswith(prefix)}
    for parent in parents:
        os.close(parent.folder)
    return names
