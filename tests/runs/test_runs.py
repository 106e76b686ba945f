"""Runs: a grid of real episodes, interruptions, and the leaderboard."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

import mlrcbench
from mlrcbench.cli import main
from mlrcbench.env.settings import Settings
from mlrcbench.errors import RunError
from mlrcbench.runs import Assignment, Plan, Result, leaderboard, leaderboard_table, read_results, run
from mlrcbench.runs.plan import read_plan

TEMPLATE = ["_template"]
SLEEPER = f"external:{sys.executable} -c 'import time; time.sleep(600)'"
T = TypeVar("T")


def test_a_grid_is_played_once_and_can_grow(tmp_path: Path) -> None:
    """Each episode has a result and a record that replays; asking again plays only what is new."""
    new: list[Result] = []
    results = run(["baseline", "reference"], TEMPLATE, directory=tmp_path, jobs=2, on_result=new.append)
    assert len(results) == len(new) == 2
    assert {one.outcome for one in results} == {"played"}
    for one in results:
        assert one.record is not None
        record = mlrcbench.read_record(one.folder / one.record)
        assert record.header.instance == one.assignment.instance
        assert one.test is not None
        assert record.evaluations[-1].score.value == one.test["value"]
        assert [score["value"] for score in one.dev] == [record.evaluations[0].score.value]
    assert mlrcbench.replay(results[0].folder / str(results[0].record)).difference is None

    counts: list[tuple[int, int]] = []
    new.clear()
    grown = run(
        ["baseline", "reference"],
        TEMPLATE,
        directory=tmp_path,
        instances=2,
        on_result=new.append,
        on_plan=lambda total, done: counts.append((total, done)),
    )
    assert counts == [(4, 2)]
    assert sorted(one.assignment.instance for one in new) == [1, 1]
    assert len(grown) == 4


def test_the_table_says_what_the_records_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The leaderboard's means are those recomputed from the records alone."""
    options = ["--agent", "baseline", "reference", "--instances", "2", "--trials", "2", "--jobs", "2"]
    assert main(["run", "_template", *options, "--quiet", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    anchors = mlrcbench.get_competition("_template").card.tier("mini").anchors["test"]
    by_agent: dict[str, list[float]] = {}
    for path in tmp_path.glob("episodes/*/records/*/record.jsonl"):
        record = mlrcbench.read_record(path.parent)
        value = next(row.score.value or 0.0 for row in record.evaluations if row.split == "test")
        gain = (value - anchors.baseline.value) / (anchors.target.value - anchors.baseline.value)
        by_agent.setdefault(path.parents[2].name.split("-")[1], []).append(gain)
    rows = leaderboard(read_results(tmp_path))
    assert [row.agent for row in rows] == ["reference", "baseline"]
    for row in rows:
        assert len(by_agent[row.agent]) == 4
        assert row.mean == pytest.approx(np.mean(by_agent[row.agent]))
        assert f"{100 * row.mean:.1f}" in printed
    assert main(["report", str(tmp_path), "--paper"]) == 0
    assert capsys.readouterr().out.endswith(printed)


def test_failures_count_as_the_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does an agent's program that dies; a sandbox that fails is tried again, and counted."""
    (one,) = run([f"external:{sys.executable} -c 'raise SystemExit(3)'"], TEMPLATE, directory=tmp_path / "a")
    assert (one.outcome, one.improvement) == ("agent failed", 0.0)
    assert "status 3" in one.reason
    (row,) = leaderboard([one])
    assert row.failures == {"agent failed": 1}

    monkeypatch.delenv("MLRCBENCH_IMAGE", raising=False)
    (two,) = run(["baseline"], TEMPLATE, directory=tmp_path / "b", sandbox="container")
    assert (two.outcome, two.improvement) == ("infrastructure failed", 0.0)
    assert two.reason
    (row,) = leaderboard([two])
    assert (row.mean, row.failures) == (0.0, {"infrastructure failed": 1})
    again: list[Result] = []
    run(["baseline"], TEMPLATE, directory=tmp_path / "b", sandbox="container", on_result=again.append)
    assert len(again) == 1


def test_a_killed_run_continues_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """After SIGKILL no process is left, finished episodes stay, and the rest is played."""
    process = _start_run(tmp_path, "baseline", SLEEPER)
    done = tmp_path / "episodes" / Assignment("baseline", "_template", 0, 0).name / "result.json"
    workers = _until(lambda: _below_with_a_sleeper(process.pid))
    stamp = done.stat().st_mtime_ns
    process.send_signal(signal.SIGKILL)
    process.communicate()
    _until(lambda: not any(_alive(pid) for pid in workers))
    results = run(["baseline", "reference"], TEMPLATE, directory=tmp_path)
    assert [one.outcome for one in results] == ["played", "played"]
    assert done.stat().st_mtime_ns == stamp


def test_ctrl_c_ends_the_episodes_of_a_run_that_can_be_continued(tmp_path: Path) -> None:
    """The exit status shows the interruption, and no episode's process is left."""
    process = _start_run(tmp_path, SLEEPER)
    workers = _until(lambda: _below_with_a_sleeper(process.pid))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"interrupted" in errors
    _until(lambda: not any(_alive(pid) for pid in workers))


def test_a_directory_keeps_to_one_kind_of_run(tmp_path: Path) -> None:
    """Results under different budgets must not be averaged; a folder without a run is an error."""
    Plan(("baseline",), ("_template",), settings=Settings(budget={"steps": 5})).write(tmp_path)
    assert read_plan(tmp_path).settings.budget == {"steps": 5}
    with pytest.raises(RunError, match="budget"):
        run(["baseline"], TEMPLATE, directory=tmp_path, budget={"steps": 6})
    with pytest.raises(RunError, match=r"run\.json"):
        read_plan(tmp_path / "none")
    with pytest.raises(RunError, match="no run"):
        read_results(tmp_path / "none")
    with pytest.raises(RunError, match="reference"):
        Plan(("referense",), ("_template",))
    with pytest.raises(RunError, match="at least"):
        Plan(("baseline",), ("_template",), trials=0)


def test_names_are_distinct_paths() -> None:
    """Two programs that differ only in odd characters get two folders."""
    names = {
        Assignment(agent, "_template", 0, 0).name
        for agent in ("external:../../x y", "external:../../x  y", "external:" + "z" * 200, "baseline")
    }
    assert len(names) == 4
    assert all("/" not in name and len(name) < 120 for name in names)


def test_invalid_submissions_stay_in_the_statistics(tmp_path: Path) -> None:
    """They are worth the baseline, and are counted by their outcome."""
    played = Result(
        Assignment("a", "c", 0, 0), "played", "", tmp_path, {"improvement": 0.8, "outcome": "scored"}
    )
    invalid = dataclasses.replace(played, test={"improvement": None, "outcome": "timeout"})
    (row,) = leaderboard([played, invalid])
    assert (row.mean, row.success, row.failures) == (0.4, 0.5, {"timeout": 1})
    assert "1 timeout" in leaderboard_table([played, invalid])


def _start_run(directory: Path, *agents: str) -> subprocess.Popen[bytes]:
    """Start the command line in its own process."""
    command = [sys.executable, "-m", "mlrcbench", "run", "_template", "--agent", *agents, "--quiet"]
    return subprocess.Popen([*command, "--out", str(directory)], stderr=subprocess.PIPE)


def _until(condition: Callable[[], T], seconds: float = 60.0) -> T:
    """Wait until a condition has a true value, and return it."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def _below_with_a_sleeper(pid: int) -> list[int]:
    """All descendants of a process, if the agent that sleeps is among them."""
    pids = _below(pid)
    return pids if any(_command(child)[-1:] == ["import time; time.sleep(600)"] for child in pids) else []


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return []


def _below(pid: int) -> list[int]:
    """All descendants of a process."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            child = int(path.parent.name)
            pids += [child, *_below(child)]
    return pids


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_runs_files_can_be_read_without_the_library(tmp_path: Path) -> None:
    """Each is plain JSON, with one object."""
    run(["baseline"], TEMPLATE, directory=tmp_path)
    (path,) = tmp_path.glob("episodes/*/result.json")
    assert json.loads(path.read_text())["assignment"]["agent"] == "baseline"
    assert json.loads((tmp_path / "run.json").read_text())["competitions"] == TEMPLATE
    assert not [name for name in os.listdir(path.parent) if name.endswith(".new")]
