"""Limits: each has its outcome, and no process outlives its command.

Processes that multiply run only in a process namespace, or under a limit that the kernel counts
for the sandbox alone.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.sandbox import Policy, Sandbox, fork_client, open_sandbox
from mlrcbench.sandbox.supervised import SupervisedSandbox
from tests.sandbox.conftest import CONFINED, LIMITS, Run, open_or_skip, running, text

MIB = 1 << 20


def python(code: str) -> str:
    """A command that runs this Python code."""
    return f"{sys.executable} -I -S -c {shlex.quote(textwrap.dedent(code))}"


def gone(mark: str, seconds: float = 3.0) -> bool:
    """Whether all processes with a mark end within some seconds."""
    deadline = time.monotonic() + seconds
    while running(mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_gigabyte_of_output(any_sandbox: Sandbox) -> None:
    """Endless output costs the host no memory and is counted to the byte."""
    any_sandbox.run("true", LIMITS)
    before = _resident()
    result = any_sandbox.run("head -c 1073741824 /dev/zero", replace(LIMITS, seconds=120))
    assert result.ending == "exited"
    assert len(result.head) + len(result.tail) + result.omitted == 1 << 30
    assert _resident() - before < 16 * MIB


def test_memory_of_one_process(run: Run) -> None:
    """An allocation beyond the limit fails inside."""
    result = run(python("x = bytearray(20 << 30)"), replace(LIMITS, memory_bytes=512 * MIB))
    assert (result.ending, result.exit_status) == ("exited", 1)
    assert "MemoryError" in text(result)


def test_memory_of_all_processes(any_run: Run) -> None:
    """Processes that are each small enough are ended when they are too large together."""
    one = python("x = b'x' * (150 << 20); import time; time.sleep(30)")
    result = any_run(f"for i in 1 2 3 4; do {one} & done; wait", replace(LIMITS, memory_bytes=400 * MIB))
    assert (result.ending, result.exit_status) == ("memory", None)
    assert result.wall_seconds < 10


def test_shared_pages_count_once(any_run: Run) -> None:
    """Forked workers that share a large array do not count it several times."""
    code = """
    import os, time
    x = b"x" * (150 << 20)
    for _ in range(4):
        if os.fork() == 0:
            time.sleep(1)
            os._exit(0)
    for _ in range(4):
        os.wait()
    """
    result = any_run(python(code), replace(LIMITS, memory_bytes=400 * MIB))
    assert (result.ending, result.exit_status) == ("exited", 0)


def test_memory_without_a_process(run: Run, tier: str) -> None:
    """Files in memory count as memory: shared mappings, and in tier strong /tmp and /dev/shm."""
    code = """
    import mmap, time
    shared = mmap.mmap(-1, 800 << 20)
    for _ in range(800):
        shared.write(bytes(1 << 20))
    time.sleep(30)
    """
    limits = replace(LIMITS, memory_bytes=400 * MIB)
    assert run(python(code), limits).ending == "memory"
    if tier == "strong":
        full = run("head -c 500M /dev/zero > /dev/shm/x", limits)
        assert full.ending == "memory" or "No space left" in text(full)


def test_file_size(any_run: Run, space: Path) -> None:
    """A file cannot grow beyond the limit."""
    result = any_run("head -c 5000000 /dev/zero > big; echo $?", replace(LIMITS, file_bytes=MIB))
    assert (
        "File size limit exceeded" in text(result)
        or "153" in text(result)
        or "File too large" in text(result)
    )
    assert (space / "big").stat().st_size <= MIB


def test_workspace_size(any_run: Run) -> None:
    """Many small files are noticed, with or without a name, while they grow or afterwards."""
    limits = replace(LIMITS, workspace_bytes=20 * MIB)
    assert (
        any_run("for i in $(seq 40); do head -c 1M /dev/zero > f$i; done; sleep 20", limits).ending == "disk"
    )
    assert any_run("head -c 10M /dev/zero > more; sleep 0.1", limits).ending == "disk"
    assert any_run("sleep 0.4; rm f* more", limits).ending == "exited"
    assert any_run("sleep 0.1", limits).ending == "exited"
    code = """
    import os, time
    files = []
    for i in range(40):
        file = open(f"u{i}", "wb", buffering=0); os.unlink(f"u{i}"); file.write(bytes(1 << 20))
        files.append(file)
    time.sleep(20)
    """
    assert any_run(python(code), limits).ending == "disk"
    code = """
    import os, time
    os.mkdir("hidden"); os.chdir("hidden"); os.mkdir("in"); os.chdir("in")
    for i in range(40):
        with open(f"f{i}", "wb") as file:
            file.write(bytes(1 << 20))
    os.chmod("../../hidden", 0)
    time.sleep(20)
    """
    assert any_run(python(code), limits).ending == "disk"


def test_short_commands_cannot_add_up(any_run: Run) -> None:
    """Once the workspace is over its size no file grows any more; removing files helps."""
    limits = replace(LIMITS, workspace_bytes=16 * MIB)
    for number in range(8):
        any_run(f"head -c 12M /dev/zero > f{number}", limits)
    assert int(text(any_run("cat f* | wc -c", limits))) < 40 * MIB
    assert any_run("rm f*", limits).ending == "exited"
    assert text(any_run("echo more > f; cat f", limits)) == "more\n"


def test_deep_tree(run: Run, space: Path) -> None:
    """A tree with paths that are too long for the system disturbs neither the watchdog nor the cleaning."""
    code = """
    import os, time, sys
    for place in (os.environ["HOME"], os.getcwd()):
        os.chdir(place)
        for _ in range(1200):
            os.mkdir("d"); os.mkdir("e"); os.chdir("d")
    time.sleep(0.6)
    """
    assert run(python(code), replace(LIMITS, workspace_bytes=1 << 30)).ending in ("exited", "disk")
    assert run("ls ~/d", LIMITS).exit_status != 0
    subprocess.run(["rm", "-rf", str(space / "d"), str(space / "e")], check=True)


def test_fork_bomb(run: Run, tier: str) -> None:
    """Where the kernel counts, a fork bomb stops at its limit and leaves nothing."""
    if tier == "landlock":
        pytest.skip("only a kernel that counts per sandbox makes this safe to try")
    code = """
    import os, time
    count = 0
    try:
        while True:
            if os.fork() == 0:
                time.sleep(30)
            count += 1
    except BlockingIOError:
        print(count)
    """
    result = run(python(code), replace(LIMITS, processes=64))
    assert 40 <= int(text(result)) <= 64
    assert text(run("echo alive", replace(LIMITS, processes=64))) == "alive\n"


def test_too_many_processes(any_run: Run, any_sandbox: Sandbox) -> None:
    """Where the kernel does not count processes, a watchdog does."""
    if any_sandbox.isolation.tier in ("strong", "uid"):
        pytest.skip("the kernel counts")
    result = any_run("for i in $(seq 40); do sleep 20 & done; wait", replace(LIMITS, processes=20))
    assert (result.ending, result.exit_status) == ("processes", None)


LEAVERS = {
    "background": "sleep {mark} & ",
    "session": "setsid sleep {mark} & ",
    "double fork": "( ( setsid sleep {mark} & ) & ) ",
    "nohup": "nohup sleep {mark} > /dev/null 2>&1 & ",
    "stopped": "sleep {mark} & kill -STOP $! ",
    "many": "for i in $(seq 100); do setsid sleep {mark} & done ",
    "ignoring": "setsid bash -c 'trap \"\" TERM HUP INT; while :; do sleep {mark}; done' & ",
}


@pytest.mark.parametrize("leaver", LEAVERS)
def test_nothing_is_left(any_run: Run, leaver: str) -> None:
    """A command ends with its main process, at once and with its output, and all others end with it."""
    mark = f"86400.{time.monotonic_ns() % 10**9}"
    started = time.monotonic()
    result = any_run(LEAVERS[leaver].format(mark=mark) + "\necho said")
    assert time.monotonic() - started < 2
    assert result.ending == "exited"
    assert text(result).endswith("said\n")
    assert running(mark) == []


def test_fork_chain(run: Run, tier: str) -> None:
    """A process that forks and exits too fast to be seen is ended too."""
    if tier == "landlock":
        pytest.skip("only in a process namespace, or under a separate user, is this safe to try")
    mark = f"chain-{time.monotonic_ns()}"
    code = f"""
    import os, time
    "{mark}"
    if os.fork() == 0:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            os.setsid()
            if os.fork():
                os._exit(0)
            time.sleep(0.00005)
    """
    for _ in range(3):
        assert run(python(code)).ending == "exited"
        assert running(mark) == []
    assert text(run("echo alive")) == "alive\n"


@pytest.mark.parametrize("kind", [*CONFINED, "process"])
def test_host_is_killed(kind: str, space: Path) -> None:
    """When the host process is killed, everything below it is."""
    open_or_skip(kind, Policy(space)).close()
    mark = f"86400.{time.monotonic_ns() % 10**9}"
    code = f"""
    import pathlib
    from mlrcbench.sandbox import *
    from mlrcbench.sandbox.supervised import SupervisedSandbox
    sandbox = SupervisedSandbox({kind!r}, Policy(pathlib.Path({str(space)!r})))
    sandbox.run("setsid sleep {mark} & sleep {mark}", Limits(seconds=60))
    """
    source = str(Path(mlrcbench.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], env={**os.environ, "PYTHONPATH": source}
    ) as host:
        deadline = time.monotonic() + 20
        while len(running(f"sleep\0{mark}")) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(running(f"sleep\0{mark}")) == 2
        host.kill()
    assert gone(mark)


def test_fork_server_is_killed(any_sandbox: Sandbox, folder: Path) -> None:
    """Running sandboxes survive the loss of the fork server, and new ones get a new fork server."""
    any_sandbox.run("true", LIMITS)
    assert fork_client._state.server is not None
    os.kill(fork_client._state.server.process.pid, signal.SIGKILL)
    fork_client._state.server.process.wait()
    assert text(any_sandbox.run("echo on", LIMITS)) == "on\n"
    other = folder / "other"
    other.mkdir()
    with open_sandbox("process", Policy(other)) as sandbox:
        assert text(sandbox.run("echo new", LIMITS)) == "new\n"


def test_fork_of_the_host(any_sandbox: Sandbox, folder: Path) -> None:
    """A forked copy of the host cannot use the host's sandboxes, and can open its own."""
    any_sandbox.run("true", LIMITS)
    other = folder / "other"
    other.mkdir()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            try:
                any_sandbox.run("true", LIMITS)
            except mlrcbench.errors.SandboxError:
                with open_sandbox("process", Policy(other)) as sandbox:
                    status = 0 if sandbox.run("echo own", LIMITS).head == b"own\n" else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert text(any_sandbox.run("echo still", LIMITS)) == "still\n"


@pytest.fixture
def many(tier: str, folder: Path) -> Iterator[list[SupervisedSandbox]]:
    """Many sandboxes."""
    open_or_skip(tier, Policy(folder)).close()
    opened = []
    for number in range(50):
        (folder / f"s{number}").mkdir()
        opened.append(SupervisedSandbox(tier, Policy(folder / f"s{number}")))
    yield opened
    for one in opened:
        one.close()


def test_many_sandboxes_leave_nothing(many: list[SupervisedSandbox]) -> None:
    """Closed sandboxes leave neither descriptors nor processes."""
    many[0].run("true", LIMITS)
    server = fork_client._state.server
    assert server is not None
    files, below = _descriptors(), _children(server.process.pid)
    for sandbox in many[1:]:
        assert sandbox.run("echo x > ~/x; echo $HOME", LIMITS).exit_status == 0
    assert len(_children(server.process.pid)) == len(below) + len(many) - 1
    for sandbox in many[1:]:
        sandbox.close()
    deadline = time.monotonic() + 5
    while len(_children(server.process.pid)) > len(below) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(_children(server.process.pid)) == len(below)
    assert _descriptors() == files


def test_forgotten_sandbox_ends(space: Path) -> None:
    """A sandbox that nobody closed ends when its object is deleted, with a warning."""
    sandbox = open_sandbox("process", Policy(space))
    home = text(sandbox.run("echo $HOME", LIMITS)).strip()
    assert Path(home).exists()
    with pytest.warns(ResourceWarning):
        del sandbox
    deadline = time.monotonic() + 5
    while Path(home).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(home).exists()


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


SPIN = """
import os, signal, time
def spin(seconds):
    while sum(os.times()[:2]) < seconds: pass
"""


@pytest.mark.parametrize(
    "work",
    [
        "spin(30)",
        "pids = [os.fork() for _ in range(2)]; spin(30)",
        "[os.waitpid(pid, 0) if (pid := os.fork()) else (spin(0.3), os._exit(0)) for _ in range(100)]",
        """signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    if not os.fork(): spin(0.3), os._exit(0)
    time.sleep(0.3)""",
    ],
    ids=["alone", "with children", "in children that end", "in children whose ends it ignores"],
)
def test_cpu_time_of_the_process_tree(any_run: Run, work: str) -> None:
    """The limit counts everything that the command does, also in processes that have ended."""
    result = any_run(python(SPIN + work), replace(LIMITS, cpu_seconds=2.0, seconds=60))
    assert result.ending == "cpu"
    assert result.cpu_seconds < 6  # far from what the command wanted


def test_waiting_takes_no_cpu_time(any_run: Run) -> None:
    """A command that sleeps longer than its CPU time ends by itself."""
    result = any_run("sleep 1.5; echo awake", replace(LIMITS, cpu_seconds=1.0))
    assert (result.ending, text(result)) == ("exited", "awake\n")
