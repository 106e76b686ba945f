"""Jobs: commands that continue while others run, under the same limits, until they are ended."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlrcbench.errors import SandboxError
from mlrcbench.sandbox import MAX_JOBS, Limits, Policy, Sandbox
from mlrcbench.sandbox.contract import Job, Until
from mlrcbench.sandbox.supervisor import box as supervisor_box
from tests.sandbox.conftest import LIMITS, open_or_skip, running, text

EATER = f"{sys.executable} -c 'x = [bytearray(1 << 20) for _ in range(150)]; input()' < <(sleep 60)"
LONG = Limits(seconds=60)


@pytest.fixture(params=("strong", "uid", "landlock", "process"))
def box(request: pytest.FixtureRequest, space: Path, data: Path) -> Iterator[Sandbox]:
    """A sandbox of each kind that runs jobs."""
    with open_or_skip(str(request.param), Policy(space, (data,))) as opened:
        yield opened


@pytest.fixture
def plain(space: Path, data: Path) -> Iterator[Sandbox]:
    """A sandbox for what does not depend on its kind."""
    with open_or_skip("process", Policy(space, (data,))) as opened:
        yield opened


# A search by a process that holds as many descriptors as a supervisor in an environment of many packages.
SEARCH = """
import os, resource, sys
from mlrcbench.sandbox.supervisor.launcher import Confinement
from mlrcbench.sandbox.supervisor.search import Search
resource.setrlimit(resource.RLIMIT_NOFILE, (min(2000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
descriptors = [os.open("/proc", os.O_RDONLY) for _ in range(1100)]
log = os.open(sys.argv[1], os.O_RDONLY)
search = Search(Confinement(descriptors[0], enabled=False), log, "b", 0, final=True)
print(search.output > 1023, search.result(20)["end"])
search.close()
"""


def start(box: Sandbox, folder: Path, command: str, limits: Limits = LONG) -> tuple[Job, Path]:
    """A job and its log."""
    log = folder / f"job-{len(list(folder.glob('job-*')))}.txt"
    return box.start_job(command, limits, log=log), log


def match(pattern: str, start: int = 0) -> Until:
    """Until a line matches."""
    return Until("match", pattern, start)


def test_a_job_continues_while_commands_come_and_go(box: Sandbox, folder: Path, space: Path) -> None:
    """It shares their files, its output is logged at once, and a wait returns its end."""
    job, log = start(box, folder, "echo begun; until [ -e go ]; do sleep 0.02; done; cat go; exit 3")
    assert job.wait(match("begun"), 20).met == "match"
    assert log.read_text() == "begun\n"
    for _ in range(3):
        assert text(box.run("setsid sleep 300 & echo here", LIMITS)) == "here\n"
    assert job.wait(Until(), 0.0).met == "time"
    box.run("echo written by a command > made; mv made go; echo mine > shared", LIMITS)
    waited = job.wait(Until(), 20)
    assert waited.result is not None
    assert (waited.met, waited.result.ending, waited.result.exit_status) == ("exit", "exited", 3)
    assert log.read_text() == "begun\nwritten by a command\n"
    assert (space / "shared").read_text() == "mine\n"
    assert job.wait(Until(), 20).result == waited.result


def test_jobs_write_what_commands_wrote(box: Sandbox, folder: Path) -> None:
    """Jobs and commands can write each other's files: all run as one user."""
    box.run("echo 1 > first; mkdir folder", LIMITS)
    job, _ = start(box, folder, "echo 2 >> first && echo 3 > folder/second; echo up; sleep 60")
    assert job.wait(match("up"), 20).met == "match"
    assert text(box.run("echo 4 >> folder/second; rm -r folder/second; cat first", LIMITS)) == "1\n2\n"


def test_several_jobs_run_at_once_and_end_one_by_one(box: Sandbox, folder: Path) -> None:
    """Ending one does not affect the other jobs or the commands."""
    marks = [f"sleep 4321.{number}" for number in (81, 82, 83)]
    jobs = [start(box, folder, f"setsid {mark} & echo up; {mark}")[0] for mark in marks]
    for job in jobs:
        assert job.wait(match("up"), 20).met == "match"
        assert job.wait(Until("quiet", quiet=0.5), 20).met == "quiet"
    assert all(len(running(mark.split()[1])) >= 2 for mark in marks)
    assert jobs[1].kill().ending == "killed"
    assert running("4321.82") == []
    assert len(running("4321.81")) >= 2
    assert text(box.run("echo still", LIMITS)) == "still\n"
    jobs[0].close()
    assert running("4321.81") == []
    assert len(running("4321.83")) >= 2
    box.close()
    assert running("4321.8") == []


def test_daemons_end_with_their_job(box: Sandbox, folder: Path) -> None:
    """A job ends with its main process; the processes that it left are killed."""
    job, log = start(box, folder, "setsid sleep 4321.84 & echo said")
    assert job.wait(Until(), 20).met == "exit"
    assert log.read_text() == "said\n"
    assert running("4321.84") == []


@pytest.mark.parametrize(
    ("command", "limits", "ending"),
    [
        ("sleep 60", replace(LONG, seconds=0.3), "timeout"),
        (
            f"{EATER} & {EATER}",
            replace(LONG, memory_bytes=250 << 20),
            "memory",
        ),
        (
            "for i in $(seq 40); do head -c 1M /dev/zero > $i; done; sleep 60",
            replace(LONG, workspace_bytes=8 << 20),
            "disk",
        ),
        ("for i in $(seq 20); do sleep 60 & done; wait", replace(LONG, processes=8), "processes"),
    ],
    ids=["seconds", "memory", "workspace", "processes"],
)
def test_limits_hold_for_jobs(box: Sandbox, folder: Path, command: str, limits: Limits, ending: str) -> None:
    """Each job is watched like a command, and the sandbox can still be used."""
    job, _ = start(box, folder, command, limits)
    waited = job.wait(Until(), 30)
    assert waited.result is not None
    assert waited.result.ending == ending
    assert text(box.run("rm -f [0-9]*; echo alive", LIMITS)) == "alive\n"


def test_the_log_is_bounded(plain: Sandbox, folder: Path) -> None:
    """The log stays small however much a job prints, and the job does not have to wait."""
    job, log = start(plain, folder, "yes | head -c 3000000; echo end", replace(LONG, log_bytes=1000))
    waited = job.wait(Until(), 20)
    assert waited.result is not None
    assert waited.result.exit_status == 0
    assert waited.result.tail.endswith(b"end\n")
    assert log.stat().st_size == 1000


def test_a_match_ends_with_its_line(box: Sandbox, folder: Path) -> None:
    """The next wait searches what follows, also after the job's end; the last line needs no line end."""
    script = "printf 'a 1\\nb 1\\nlong \\rb 2\\nrest b'; sleep 0.3; echo; printf last"
    job, log = start(box, folder, script)
    ends = []
    position = 0
    for _ in range(3):
        waited = job.wait(match("b", position), 20)
        if waited.met == "exit":  # it was quicker
            waited = box.search(log, match("b", position))
        assert waited.met == "match"
        ends.append(log.read_bytes()[position : waited.end])
        position = waited.end
    assert ends == [b"a 1\nb 1\n", b"long \rb 2\n", b"rest b\n"]
    assert job.wait(match("nothing", position), 20).met == "exit"
    assert box.search(log, match("^last$", position)).end == log.stat().st_size
    assert box.search(log, match("nothing")).met == "exit"
    assert box.search(log, match("a")).end == 4


def test_a_match_that_does_not_come(plain: Sandbox, folder: Path) -> None:
    """The wait ends in time, and later output is still searched."""
    job, _ = start(plain, folder, "echo one; until [ -e go ]; do sleep 0.02; done; echo two; sleep 60")
    assert job.wait(match("two"), 0.2).met == "time"
    plain.run("touch go", LIMITS)
    assert job.wait(match("two"), 20).met == "match"


def test_a_match_where_a_thousand_descriptors_are_open(folder: Path) -> None:
    """Then descriptors have numbers that `select.select` does not take."""
    (folder / "log").write_text("a 1\nb 1\nb 2\n")
    assert subprocess.check_output([sys.executable, "-c", SEARCH, folder / "log"]) == b"True 8\n"


@pytest.mark.parametrize(
    ("pattern", "message", "ended"),
    [
        ("(a+)+$", "took more than", False),
        ("(a+)+$", "took more than", True),
        ("(a|a)*b", "took more than", False),
        ("(", "no regular expression", False),
        ("(", "no regular expression", True),
        ("a{99999999999999999999}", "no regular expression", False),
        ("(" * 5000, "nested too deeply", False),
        ("(?P<n>a)(?P=m)", "no regular expression", False),
    ],
    ids=range(8),
)
def test_hostile_patterns_are_bounded(
    plain: Sandbox, folder: Path, pattern: str, message: str, ended: bool
) -> None:
    """No pattern makes the library wait for long; the job and the sandbox can still be used."""
    job, log = start(plain, folder, f"printf '%s!\\n' {'a' * 1500}; {'true' if ended else 'sleep 60'}")
    if ended:
        assert job.wait(Until(), 20).met == "exit"
        waited = plain.search(log, match(pattern))
    else:
        assert job.wait(match("!"), 20).met == "match"
        waited = job.wait(match(pattern), 20)
    assert (waited.met, message in waited.why) == ("error", True), waited.why
    assert plain.run("true", LIMITS).exit_status == 0


def test_supervisors_know_how_many_commands_there_may_be() -> None:
    """Supervisors repeat the number, because they cannot import it."""
    assert supervisor_box._MOST_COMMANDS == MAX_JOBS + 1


def test_another_thread_may_interrupt_a_sandbox(plain: Sandbox, folder: Path) -> None:
    """A wait in an interrupted sandbox fails, and no process is left."""
    job, _ = start(plain, folder, "sleep 4321.85")
    threading.Timer(0.2, plain.interrupt).start()
    with pytest.raises(SandboxError):
        job.wait(Until(), 60)
    plain.close()
    deadline = time.monotonic() + 20
    while running("4321.85") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running("4321.85") == []


def test_a_killed_library_leaves_no_job(box: Sandbox, folder: Path, space: Path) -> None:
    """Nor does it leave the processes that the job has started."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from mlrcbench.sandbox import Limits, Policy, open_sandbox\n"
        "from mlrcbench.sandbox.supervised_job import Until\n"
        "COMMAND = 'setsid sleep 4321.86 & echo up; sleep 4321.86'\n"
        "box = open_sandbox(sys.argv[1], Policy(Path(sys.argv[2])))\n"
        "job = box.start_job(COMMAND, Limits(60), log=Path(sys.argv[3]))\n"
        "job.wait(Until('match', 'up'), 20)\n"
        "print('ready', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    kind = {"none": "process"}.get(box.isolation.tier, box.isolation.tier)
    command = [sys.executable, "-c", code, kind, str(space), str(folder / "log")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("ready\n", -9), done.stderr
    deadline = time.monotonic() + 20
    while running("sleep\x004321.86") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running("sleep\x004321.86") == []


def test_a_closed_sandbox_starts_no_jobs(plain: Sandbox, folder: Path) -> None:
    """Starting a job in it raises an error that says so."""
    plain.close()
    with pytest.raises(SandboxError, match="closed"):
        start(plain, folder, "true")
