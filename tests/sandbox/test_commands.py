"""Running commands: what they return, and when."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mlrcbench.errors import SandboxError
from mlrcbench.sandbox import Limits, Policy, Sandbox
from tests.sandbox.conftest import CONFINED, LIMITS, Run, open_or_skip, text


def test_output_and_status(any_run: Run) -> None:
    """Output of both streams comes in order, with the status and the time."""
    result = any_run("echo out; echo err >&2; exit 3")
    assert (result.ending, result.exit_status, text(result)) == ("exited", 3, "out\nerr\n")
    assert 0 < result.wall_seconds < 10
    assert result.peak_memory_bytes > 0


@pytest.mark.parametrize(("command", "status"), [("kill -9 $$", 137), ("kill -TERM $$", 143), ("true", 0)])
def test_signals_are_statuses(any_run: Run, command: str, status: int) -> None:
    """Death by signal is reported as a shell does."""
    assert any_run(command).exit_status == status


def test_commands_follow_each_other(any_run: Run, space: Path) -> None:
    """Each command is a fresh shell in the workspace, and files are the state."""
    assert any_run("x=1; cd /; echo state > $OLDPWD/file").exit_status == 0
    assert text(any_run("echo ${x-unset}; pwd; cat file")) == f"unset\n{space}\nstate\n"


def test_cpu_time(any_run: Run) -> None:
    """User and system time of grandchildren counts, of orphans too."""
    loop = f"{sys.executable} -I -S -c 'import time\nwhile time.process_time() < 0.3: pass'"
    assert any_run(f'bash -c "{loop}"').cpu_seconds > 0.25


def test_stdin_is_empty(any_run: Run) -> None:
    """A command that reads its input sees its end."""
    assert text(any_run("cat; echo done")) == "done\n"


def test_too_long_a_command(any_run: Run) -> None:
    """If the system refuses to start a command, that is a result, not an error."""
    result = any_run("true " + "x" * 300_000)
    assert result.exit_status == 126
    assert "Argument list too long" in text(result)


@pytest.mark.parametrize("command", ["echo \0", "echo \ud800"])
def test_commands_that_no_shell_can_be_given(any_run: Run, command: str) -> None:
    """A command that cannot be passed to a shell is the agent's failure."""
    result = any_run(command)
    assert result.exit_status == 126
    assert "could not be started" in text(result)


def test_timeout(any_run: Run) -> None:
    """A command ends soon after its time, whatever it does about signals."""
    limits = replace(LIMITS, seconds=0.5)
    for command in ("sleep 60", "trap '' TERM INT HUP; sleep 60", "kill -STOP $$", "yes"):
        started = time.monotonic()
        result = any_run(command, limits)
        assert (result.ending, result.exit_status) == ("timeout", None)
        assert time.monotonic() - started < 3
    assert text(any_run("echo alive")) == "alive\n"


def test_output_is_bounded(any_run: Run) -> None:
    """Head and tail are kept, the middle is counted."""
    limits = replace(LIMITS, output_bytes=1000)
    result = any_run("seq 100000", limits)
    assert len(result.head) == len(result.tail) == 500
    assert result.head.startswith(b"1\n2\n")
    assert result.tail.endswith(b"99999\n100000\n")
    assert result.omitted == len("".join(f"{n}\n" for n in range(1, 100001))) - 1000


def test_log(any_sandbox: Sandbox, folder: Path) -> None:
    """A log is written up to its limit, and kept only if the result does not hold everything."""
    log = folder / "log.txt"
    any_sandbox.run("echo short", LIMITS, log=log)
    assert not log.exists()
    result = any_sandbox.run("seq 100000", replace(LIMITS, log_bytes=5000), log=log)
    assert log.stat().st_size == 5000
    assert log.read_bytes().startswith(result.head[:5000])


def test_home_is_private_and_emptied(any_run: Run) -> None:
    """HOME and TMPDIR are writable, and are emptied after the command."""
    deep = "cd ~; for i in $(seq 300); do mkdir d; cd d; done; touch f; chmod 000 ~/d"
    assert any_run(f"echo x > ~/a; echo y > $TMPDIR/b; mkdir -p ~/.config; ({deep})").exit_status == 0
    assert (
        text(
            any_run("cd ~; find . -xdev -type f 2>/dev/null; ls -d .config d 2>/dev/null; touch ok && rm ok")
        )
        == ""
    )


def test_permissions_taken_away(any_run: Run) -> None:
    """A command that takes its own permissions away does not affect the next one."""
    any_run("chmod 000 .; chmod 000 ~; sleep 0.4")
    assert any_run("touch here ~/there").exit_status == 0


def test_useful_work(run: Run) -> None:
    """Pipes, here-documents, temporary files, process pools, shared memory and pseudo-random devices work."""
    script = """
import multiprocessing as mp, multiprocessing.shared_memory as sm, tempfile, threading, subprocess, secrets
def square(x): return x * x
if __name__ == "__main__":
    with mp.get_context("fork").Pool(2) as pool: print(pool.map(square, range(4)))
    memory = sm.SharedMemory(create=True, size=64); memory.close(); memory.unlink()
    with tempfile.NamedTemporaryFile() as file: file.write(secrets.token_bytes(8))
    print(subprocess.check_output(["nproc"]) != b"")
    mp.Manager().dict()
"""
    result = run(f"cat > pool.py <<'E'\n{script}\nE\n{sys.executable} pool.py && sort <<< 'b' | cat")
    assert text(result).splitlines() == ["[0, 1, 4, 9]", "True", "b"]


# A program for an interpreter that was called by a relative path, so that `..` is in its own name for itself.
CALLED_BY_RELATIVE_PATH = """
import sys
from pathlib import Path
from mlrcbench.sandbox import Limits, Policy, open_sandbox
assert ".." in sys.executable
with open_sandbox(sys.argv[1], Policy(Path(sys.argv[2]))) as sandbox:
    print(sandbox.run("python -c 'print(42)'", Limits(seconds=30)).head.decode(), end="")
"""


@pytest.mark.parametrize("kind", [*CONFINED, "process"])
def test_an_interpreter_called_by_a_relative_path(kind: str, space: Path, tmp_path: Path) -> None:
    """Commands can start the interpreter although the sandbox lacks a folder of that path."""
    open_or_skip(kind, Policy(space)).close()
    command = [os.path.relpath(sys.executable, tmp_path), "-c", CALLED_BY_RELATIVE_PATH, kind, str(space)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("42\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("module", ["numpy", "torch"])
def test_packages(run: Run, module: str) -> None:
    """The packages of this environment can be imported inside."""
    pytest.importorskip(module)
    assert text(run(f"{sys.executable} -c 'import {module}; print({module}.__name__)'")) == f"{module}\n"


def test_closed(any_sandbox: Sandbox) -> None:
    """A sandbox may be closed twice, but runs no command afterwards."""
    any_sandbox.run("true", LIMITS)
    any_sandbox.close()
    any_sandbox.close()
    with pytest.raises(SandboxError, match="closed"):
        any_sandbox.run("true", LIMITS)


def test_lost_supervisor(any_sandbox: Sandbox) -> None:
    """The run whose supervisor dies fails; the next one works."""
    home = text(any_sandbox.run("echo $HOME", LIMITS)).strip()
    command = f"sleep 20.{os.getpid()}"
    killer = threading.Timer(0.5, lambda: os.kill(_supervisor_of(command), signal.SIGKILL))
    killer.start()
    with pytest.raises(SandboxError, match="supervisor"):
        any_sandbox.run(f"{command}; true", LIMITS)
    killer.join()
    assert text(any_sandbox.run("echo again", LIMITS)) == "again\n"
    assert home == "/tmp" or not Path(home).exists()
    with pytest.raises(AssertionError, match="not running"):
        _watch_for_ten_seconds(command)


def test_two_at_once(tier: str, folder: Path) -> None:
    """Sandboxes of several threads run at the same time and do not affect each other."""
    outputs: dict[int, str] = {}

    def work(number: int) -> None:
        space = folder / f"space-{number}"
        space.mkdir()
        with open_or_skip(tier, Policy(space)) as sandbox:
            for _ in range(5):
                sandbox.run(f"echo {number} >> mine; sleep 0.05", LIMITS)
            outputs[number] = text(
                sandbox.run(f"cat mine; cat {folder}/space-{1 - number}/mine 2>&1 | tail -c 1", LIMITS)
            )

    open_or_skip(tier, Policy(folder)).close()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: output[:10] for number, output in outputs.items()} == {0: "0\n" * 5, 1: "1\n" * 5}
    assert all(str(1 - number) not in output for number, output in outputs.items())


def test_one_sandbox_in_two_threads(any_sandbox: Sandbox) -> None:
    """Commands of one sandbox wait for each other."""
    outputs: list[str] = []

    def work() -> None:
        outputs.append(text(any_sandbox.run("echo a; sleep 0.2; echo b", LIMITS)))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == ["a\nb\n"] * 3


def test_zero_output_bytes(any_run: Run) -> None:
    """A command may be run without keeping any output."""
    result = any_run("echo hi", Limits(seconds=10, output_bytes=0))
    assert (result.head, result.tail, result.omitted) == (b"", b"", 3)


def _watch_for_ten_seconds(command: str) -> None:
    """Fail once the command has ended, or return after ten seconds; it ends soon after its supervisor."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        _supervisor_of(command)


def _supervisor_of(command: str) -> int:
    """The process number of a command's supervisor: the parent of its shell."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if command in (folder / "cmdline").read_text() and "bash" in (folder / "comm").read_text():
                    return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    raise AssertionError("the command is not running")


def test_git_works(run: Run) -> None:
    """Git has an identity, and does not read the configuration of the machine, which may be closed."""
    if shutil.which("git") is None:
        pytest.skip("no git here")
    result = run("git init -q . && git commit -q --allow-empty -m first && git log --format='%an %cn'")
    assert text(result).splitlines()[-1] == "agent agent"
    assert text(run("echo $GIT_CONFIG_NOSYSTEM")) == "1\n"
