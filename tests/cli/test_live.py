"""What `mlrcbench run` shows on a terminal while an episode, or a run, is being played."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path

import pytest

from mlrcbench.catalog.registry import ENTRY_POINT_GROUP
from mlrcbench.runs.newest_output import last_line
from tests.conftest import copy_of_template

AGENT = '''
    import json, sys, time

    SLOW = """import time
    import numpy as np

    def predict(train, x):
        print("epoch 1 of 9 \\x1b[2J", flush=True)
        time.sleep(2)
        return np.zeros(len(x))
    """
    actions = [
        {"action": "write_file", "path": "method.py", "text": SLOW},
        {"action": "evaluate"},
        {"action": "submit"},
    ]
    for number, line in enumerate(sys.stdin):
        time.sleep(1.5)
        print(json.dumps(actions[number]), flush=True)
'''


def on_a_terminal(*arguments: str, columns: int = 120) -> tuple[int, str]:
    """The status of a command, and all that it wrote to a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "mlrcbench", *arguments],
        stdout=theirs,
        stderr=theirs,
        env={name: value for name, value in os.environ.items() if name != "COLUMNS"},
    )
    os.close(theirs)
    text = b""
    while True:
        try:
            chunk = os.read(ours, 1 << 16)
        except OSError:  # the other side is closed
            break
        text += chunk
        if not chunk:
            break
    os.close(ours)
    return process.wait(), text.decode("utf-8", "replace")


@pytest.fixture
def agent(tmp_path: Path) -> str:
    """The name of an agent that thinks, and whose method prints and is slow."""
    program = tmp_path / "agent.py"
    program.write_text(textwrap.dedent(AGENT).replace("\n    \n", "\n\n"))
    return f"external:{sys.executable} {program}"


def test_an_episode_shows_who_acts_how_long_and_what_the_code_prints(agent: str, tmp_path: Path) -> None:
    """The agent's thinking, the evaluation's limit and last line, and what is left, as they come."""
    status, text = on_a_terminal("run", "_template", "--agent", agent, "--records", str(tmp_path / "records"))
    assert status == 0, text
    drawn = re.split(r"[\r\n]+", text)
    evaluating = [line for line in drawn if line.startswith("step 2: evaluate [") and "epoch 1 of 9" in line]
    assert evaluating
    assert re.search(r"\[00:0\d, at most 01:00, \d\d:\d\d of the episode left\] epoch 1 of 9", evaluating[0])
    thinking = [line for line in drawn if line.startswith("step 2: the agent thinks [00:0")]
    assert "19 steps and 5 evaluations left" in thinking[0]
    submitting = [line for line in drawn if line.startswith("step 3: submit [")]
    assert "the last time" in submitting[0]
    assert all(len(line) < 120 for line in drawn if line.startswith("step") and "[0" in line)
    assert "\x1b[2J" not in text


def test_a_run_shows_which_episode_is_played(agent: str, tmp_path: Path) -> None:
    """Next to the bar are the episode's name, its time, and the last line that its code printed."""
    status, text = on_a_terminal(
        "run", "_template", "--agent", agent, "--out", str(tmp_path / "run"), columns=200
    )
    assert status == 0, text
    assert re.search(r"episodes: +0%.*_template-external-\S+-i0-t0 00:0\d epoch 1 of 9", text)


def test_the_last_line_is_that_of_the_newest_output(tmp_path: Path) -> None:
    """Old outputs do not count; a carriage return begins a line again; long and hostile lines do no harm."""
    outputs, evaluation = tmp_path / "outputs", tmp_path / "evaluations" / "1"
    outputs.mkdir()
    evaluation.mkdir(parents=True)
    now = time.time()
    assert last_line(None, now) == ""
    (outputs / "step-0001.txt").write_text("old\n")
    os.utime(outputs / "step-0001.txt", (now - 10, now - 10))
    assert last_line(tmp_path, now - 5) == ""
    (evaluation / "output.txt").write_text("started\nepoch 1\repoch 2\x1b[31m\n\n")
    assert last_line(tmp_path, now - 5) == "epoch 2"
    assert last_line(tmp_path, now - 20) == "epoch 2"
    (evaluation / "output.txt").write_bytes(b"x" * 10_000_000 + b"\xff")
    assert len(last_line(tmp_path, now - 5)) == 200


@pytest.fixture
def slow_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of an installed competition, whose build takes over two seconds and prints how far it is."""
    folder = copy_of_template(tmp_path).rename(tmp_path / "slow_problem")
    card, data = folder / "card.toml", folder / "data.py"
    card.write_text(card.read_text().replace('"_template"', '"slow-problem"'))
    wait = "    import time\n    print('half done', flush=True)\n    time.sleep(2.5)\n    world ="
    data.write_text(data.read_text().replace("    world =", wait))
    information = tmp_path / "slow_problem-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: slow_problem\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\nslow = slow_problem\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return "slow-problem"


def test_a_build_is_one_line_that_moves(slow_problem: str, fresh: Path) -> None:
    """It says what is built, for how long, and the build's own last line; no second line or bar appears."""
    run = ("run", slow_problem, "--agent", "baseline", "--instance", "2", "--records", str(fresh))
    for arguments in (("prepare", slow_problem, "--instances", "2", "--jobs", "2"), run):
        status, text = on_a_terminal(*arguments, columns=200)
        assert status == 0, text
        lines = [line for line in re.split(r"[\r\n]+", text) if "building" in line]
        assert all(line.lstrip("\x1b[AKJ").startswith("preparing slow-problem") for line in lines), text
        times = {time for line in lines for time in re.findall(r"once on .*\[(\d\d:\d\d)\]", line)}
        assert len(times) >= 2, text
        assert any("slow-problem (mini)" in line and "half done" in line for line in lines), text
        assert "%|" not in text


def test_a_build_is_plain_lines_without_a_terminal(slow_problem: str, fresh: Path) -> None:
    """One when it begins, and one with its place and its time when it has ended."""
    command = [sys.executable, "-m", "mlrcbench", "prepare", slow_problem]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stderr == "preparing slow-problem ...\n"
    assert re.fullmatch(rf"instance 0: {fresh}/\S+ \(\d+\.\d s\)\n", done.stdout)
