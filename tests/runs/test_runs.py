"""Runs: a grid of real episodes, what interrupts one, and what the table makes of it."""

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
from mlrcbench.errors import RunError
from mlrcbench.runs import Assignment, Plan, Result, leaderboard, leaderboard_table, read_results, run
from mlrcbench.runs.plan import read_plan

TEMPLATE = ["_template"]
SLEEPER = f"external:{sys.executable} -c 'import time; time.sleep(600)'"
T = TypeVar("T")


def test_a_grid_is_played_once_and_can_grow(tmp_path: Path) -> None:
    """Each episode has a result and a record that replays; asking again plays only what is new."""
    new: list[Result] = []
    found = run(["baseline", "reference"], TEMPLATE, directory=tmp_path, jobs=2, on_result=new.append)
    assert len(found) == len(new) == 2
    assert {one.outcome for one in found} == {"played"}
    for one in found:
        assert one.record is not None
        record = mlrcbench.read_record(one.folder / one.record)
        assert record.header["instance"] == one.assignment.instance
        assert one.test is not None
        assert record.evaluations[-1]["score"]["value"] == one.test["value"]
        assert [score["value"] for score in one.dev] == [record.evaluations[0]["score"]["value"]]
    assert mlrcbench.replay(found[0].folder / str(found[0].record)).difference is None

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
    """Means recomputed from the records alone are the leaderboard's."""
    words = ["--agent", "baseline", "reference", "--instances", "2", "--trials", "2", "--jobs", "2"]
    assert main(["run", "_template", *words, "--quiet", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    anchors = mlrcbench.get_competition("_template").card.tier("mini").anchors["test"]
    by_agent: dict[str, list[float]] = {}
    for path in tmp_path.glob("episodes/*/records/*/record.jsonl"):
        record = mlrcbench.read_record(path.parent)
        value = next(entry["score"]["value"] for entry in record.evaluations if entry["split"] == "test")
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


def test_failures_of_agents_count_and_failures_of_infrastructure_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that dies is worth the baseline; a sandbox that fails is tried again, then named."""
    (one,) = run([f"external:{sys.executable} -c 'raise SystemExit(3)'"], TEMPLATE, directory=tmp_path / "a")
    assert (one.outcome, one.improvement) == ("agent failed", 0.0)
    assert "status 3" in one.reason
    (row,) = leaderboard([one])
    assert row.failures == {"agent failed": 1}

    monkeypatch.delenv("MLRCBENCH_IMAGE", raising=False)
    (two,) = run(["baseline"], TEMPLATE, directory=tmp_path / "b", sandbox="container")
    assert (two.outcome, two.improvement) == ("infrastructure failed", None)
    assert two.reason
    assert leaderboard([two]) == []
    again: list[Result] = []
    run(["baseline"], TEMPLATE, directory=tmp_path / "b", sandbox="container", on_result=again.append)
    assert len(again) == 1


def test_a_killed_run_goes_on_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """SIGKILL in the middle: no process is left, finished episodes stay, the rest is played."""
    process = _start_run(tmp_path, "baseline", SLEEPER)
    done = tmp_path / "episodes" / Assignment("baseline", "_template", 0, 0).name / "result.json"
    workers = _until(lambda: _below_with_a_sleeper(process.pid))
    stamp = done.stat().st_mtime_ns
    process.send_signal(signal.SIGKILL)
    process.communicate()
    _until(lambda: not any(_alive(pid) for pid in workers))
    found = run(["baseline", "reference"], TEMPLATE, directory=tmp_path)
    assert [one.outcome for one in found] == ["played", "played"]
    assert done.stat().st_mtime_ns == stamp


def test_ctrl_c_ends_the_episodes_and_can_be_gone_on_with(tmp_path: Path) -> None:
    """The exit status says so, and no episode's process is left."""
    process = _start_run(tmp_path, SLEEPER)
    workers = _until(lambda: _below_with_a_sleeper(process.pid))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"interrupted" in said
    _until(lambda: not any(_alive(pid) for pid in workers))


def test_a_directory_keeps_to_one_kind_of_run(tmp_path: Path) -> None:
    """Other budgets would be averaged with these; no run at all is said to be none."""
    Plan(("baseline",), ("_template",), budget={"steps": 5}).write(tmp_path)
    assert read_plan(tmp_path).budget == {"steps": 5}
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


def test_names_are_paths_that_do_not_meet() -> None:
    """Two programs that differ in odd characters only get two folders."""
    names = {
        Assignment(agent, "_template", 0, 0).name
        for agent in ("external:../../x y", "external:../../x  y", "external:" + "z" * 200, "baseline")
    }
    assert len(names) == 4
    assert all("/" not in name and len(name) < 120 for name in names)


def test_invalid_submissions_stay_in_the_statistics(tmp_path: Path) -> None:
    """They are worth the baseline, and are counted as what they are."""
    played = Result(
        Assignment("a", "c", 0, 0), "played", "", tmp_path, {"improvement": 0.8, "outcome": "scored"}
    )
    invalid = dataclasses.replace(played, test={"improvement": None, "outcome": "timeout"})
    (row,) = leaderboard([played, invalid])
    assert (row.mean, row.success, row.failures) == (0.4, 0.5, {"timeout": 1})
    assert "1 timeout" in leaderboard_table([played, invalid])


def _start_run(directory: Path, *agents: str) -> subprocess.Popen[bytes]:
    """The command line, in a process of its own."""
    command = [sys.executable, "-m", "mlrcbench", "run", "_template", "--agent", *agents, "--quiet"]
    return subprocess.Popen([*command, "--out", str(directory)], stderr=subprocess.PIPE)


def _until(holds: Callable[[], T], seconds: float = 60.0) -> T:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def _below_with_a_sleeper(pid: int) -> list[int]:
    """All processes below one, if the agent that sleeps is among them."""
    found = _below(pid)
    return found if any(_words(child)[-1:] == ["import time; time.sleep(600)"] for child in found) else []


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return []


def _below(pid: int) -> list[int]:
    """All processes below one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            child = int(path.parent.name)
            found += [child, *_below(child)]
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_runs_files_can_be_read_without_the_library(tmp_path: Path) -> None:
    """Plain JSON, one object each."""
    run(["baseline"], TEMPLATE, directory=tmp_path)
    (path,) = tmp_path.glob("episodes/*/result.json")
    assert json.loads(path.read_text())["assignment"]["agent"] == "baseline"
    assert json.loads((tmp_path / "run.json").read_text())["competitions"] == TEMPLATE
    assert not [name for name in os.listdir(path.parent) if name.endswith(".new")]
