"""Nothing of an episode keeps running when its process, or the program that asked for it, is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mlrcbench.runs import run
from tests.runs.test_runs import _alive, _start_run, _until

# Notes its parent, itself and a child in a session of its own; then neither reads nor ends. The process
# that plays its episode dies if it is asked to.
_STAYER = """
    import os, pathlib, signal, subprocess, sys, time
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    child = subprocess.Popen(["setsid", "sleep", "600"])
    notes = pathlib.Path(sys.argv[1])
    notes.with_suffix(".new").write_text(f"{os.getppid()} {os.getpid()} {child.pid}")
    notes.with_suffix(".new").rename(notes)
    if sys.argv[2:] == ["kill"]:
        os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)
"""
_PYTHON_AGENT = """
    import pathlib, subprocess, sys, os

    class Stayer:
        def act(self, observation, info):
            child = subprocess.Popen(["setsid", "sleep", "600"])
            pathlib.Path({notes!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
            return {{"action": "submit"}}
"""
_IN_PROCESS = """
    import sys, threading
    from mlrcbench.agents.external import ExternalAgent
    agent = ExternalAgent(sys.argv[1:])
    thread = threading.Thread(target=lambda: agent._start())
    thread.start()
    thread.join()
    print("started", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def stayer(tmp_path: Path) -> tuple[str, Path]:
    """An agent that does not end by itself, and the file of its notes."""
    program, notes = tmp_path / "stayer.py", tmp_path / "notes"
    program.write_text(textwrap.dedent(_STAYER))
    return f"external:{sys.executable} {program} {notes}", notes


def _pids(notes: Path) -> list[int]:
    _until(notes.exists)
    return [int(pid) for pid in _until(lambda: notes.read_text().split())]


def test_an_agent_ends_with_the_worker_that_is_killed(stayer: tuple[str, Path], tmp_path: Path) -> None:
    """So does what it has started in a session of its own; the run continues and counts the failure."""
    agent, notes = stayer
    (result,) = run([f"{agent} kill"], ["_template"], directory=tmp_path / "run")
    assert result.outcome == "infrastructure failed"
    assert "signal 9" in result.reason
    assert not [pid for pid in _pids(notes) if _alive(pid)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_agent_ends_with_the_run_that_is_killed(
    number: signal.Signals, stayer: tuple[str, Path], tmp_path: Path
) -> None:
    """Its worker, the program, and what that has started in a session of its own."""
    agent, notes = stayer
    process = _start_run(tmp_path / "run", agent)
    pids = _pids(notes)
    process.send_signal(number)
    process.communicate()
    _until(lambda: not any(_alive(pid) for pid in pids))


def test_what_a_python_agent_has_started_ends_with_its_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it hid; the episode has its score."""
    notes = tmp_path / "notes"
    (tmp_path / "stayer_module.py").write_text(textwrap.dedent(_PYTHON_AGENT).format(notes=str(notes)))
    monkeypatch.syspath_prepend(tmp_path)
    (result,) = run(["stayer_module:Stayer"], ["_template"], directory=tmp_path / "run")
    assert result.outcome == "played"
    assert not [pid for pid in _pids(notes) if _alive(pid)]


def test_an_agent_ends_with_a_program_that_plays_by_itself(stayer: tuple[str, Path]) -> None:
    """The agent lives longer than the thread that asked for it, and not longer than the program."""
    agent, notes = stayer
    command = agent.removeprefix("external:").split()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_IN_PROCESS), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    parent, program, child = _pids(notes)
    assert parent == process.pid
    assert _alive(program)
    process.kill()
    process.communicate()
    _until(lambda: not _alive(program))
    os.kill(child, signal.SIGKILL)  # only a run has a caretaker above the agent
