"""SIGKILL at any moment: nothing is corrupt, nothing keeps running, the next run continues."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "crash.py"
BUILD = """
import os, time
def build(public, private, *, seed, tier):
    (public / "new").write_text(str(os.getpid()))
    (public / "new").rename(public / "pid")
    time.sleep(600)
"""
CALL = """
import sys
from pathlib import Path
from mlrcbench.catalog.trusted import call
folder = Path(sys.argv[1])
paths = {"public": str(folder), "private": str(folder), "seed": 0, "tier": "mini"}
call("build", folder / "data.py", paths, seconds=600)
"""


@pytest.mark.slow
def test_killed_processes_leave_nothing_behind(tmp_path: Path) -> None:
    """Snapshots, restores, saved files, instances and records are each killed in the middle."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--kills", "20"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the next run goes on" in done.stdout  # prose: ok


def test_a_build_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    """However long it would take."""
    (tmp_path / "data.py").write_text(BUILD)
    parent = subprocess.Popen([sys.executable, "-c", CALL, str(tmp_path)])
    while not (tmp_path / "pid").exists():
        assert parent.poll() is None
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 60
    while _is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie; in a container nobody may wait for zombies."""
    try:
        os.kill(pid, 0)
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
