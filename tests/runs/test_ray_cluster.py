"""Runs on a Ray cluster: they keep the local executor's promises, and survive the death of a node."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlrcbench.errors import RunError
from mlrcbench.runs import Result, read_results, run
from mlrcbench.runs.episode_process import request_for
from mlrcbench.runs.plan import Assignment, Plan
from mlrcbench.runs.ray_cluster import _play_on_node
from tests.runs.test_runs import SLEEPER, TEMPLATE, _alive, _below, _until

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed")
# Ray leaves processes and files of its clusters to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning:ray"),
]

# Reports that it plays, waits for a signal, and submits.
_WAITING = """
    import os, pathlib, sys, time
    here = pathlib.Path(sys.argv[1])
    (here / f"{os.getpid()}.started").touch()
    while not (here / "go").exists():
        time.sleep(0.05)
    for line in sys.stdin:
        print('{"action": "submit"}', flush=True)
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head that plays nothing and two nodes of one CPU each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    tools = importlib.import_module("ray.cluster_utils")
    cluster = tools.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    yield cluster
    importlib.import_module("ray").shutdown()
    cluster.shutdown()


@needs_ray
@pytest.mark.slow
def test_a_node_that_dies_costs_the_episodes_on_it(cluster: Any, tmp_path: Path) -> None:
    """The lost episode is played again on the other node; finished ones are not."""
    program, signs, root = tmp_path / "agent.py", tmp_path / "signs", tmp_path / "run"
    program.write_text(textwrap.dedent(_WAITING))
    signs.mkdir()
    killer = threading.Thread(target=_kill_a_node, args=(cluster, signs))
    killer.start()
    new: list[Result] = []
    agents = ["baseline", f"external:{sys.executable} {program} {signs}"]
    results = run(
        agents,
        TEMPLATE,
        directory=root,
        instances=2,
        executor="ray",
        ray_address=cluster.address,
        on_result=new.append,
    )
    killer.join()
    assert [one.outcome for one in results] == ["played"] * 4
    assert len(new) == 4
    assert len(list(signs.glob("*.started"))) == 3
    records = Counter(path.parents[2].name for path in root.glob("episodes/*/records/*/record.jsonl"))
    assert sorted(records.values()) == [1, 1, 1, 2]
    (twice,) = [name for name, count in records.items() if count == 2]
    assert "external" in twice
    here = run(["baseline"], TEMPLATE, directory=tmp_path / "here", instances=2)
    there = [one for one in results if one.assignment.agent == "baseline"]
    assert [one.improvement for one in here] == [one.improvement for one in there]


def _kill_a_node(cluster: Any, signs: Path) -> None:
    """Remove a node when both nodes play; the others continue when its agent is dead.

    Whatever happens, they continue, so that the run ends and the test says what was wrong.
    """
    try:
        _until(lambda: len(list(signs.glob("*.started"))) == 2, 300.0)
        pids = [int(path.stem) for path in signs.glob("*.started")]
        cluster.remove_node(cluster.nodes[0], allow_graceful=False)
        _until(lambda: not all(_alive(pid) for pid in pids), 30.0)
    finally:
        (signs / "go").touch()


@needs_ray
@pytest.mark.slow
def test_ctrl_c_ends_the_clusters_episodes(tmp_path: Path) -> None:
    """The exit status shows it, no process is left, and the run can be continued anywhere."""
    command = [sys.executable, "-m", "mlrcbench", "run", "_template", "--executor", "ray", "--quiet"]
    process = subprocess.Popen(
        [*command, "--agent", "baseline", SLEEPER, "--jobs", "2", "--out", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )
    sleeper = _until(lambda: _sleepers(process.pid), 300.0)  # a cluster starts first
    below = _below(process.pid)
    done = tmp_path / "episodes" / Assignment("baseline", "_template", 0, 0).name / "result.json"
    _until(done.exists)
    stamp = done.stat().st_mtime_ns
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert b"interrupted" in errors
    _until(lambda: not any(_alive(pid) for pid in [*sleeper, *below]))
    run(["baseline", "reference"], TEMPLATE, directory=tmp_path)
    assert [one.outcome for one in read_results(tmp_path)] == ["played", "played"]
    assert done.stat().st_mtime_ns == stamp


def _sleepers(pid: int) -> list[int]:
    """Agents that sleep, among all descendants of a process."""
    pids = []
    for child in _below(pid):
        with contextlib.suppress(OSError):
            if b"time.sleep(600)" in Path(f"/proc/{child}/cmdline").read_bytes().rpartition(b"-c")[2]:
                pids.append(child)
    return pids


@needs_ray
def test_a_missing_cluster_is_reported(tmp_path: Path) -> None:
    """The error says how to start one."""
    with pytest.raises(RunError, match="ray start"):
        run(["baseline"], TEMPLATE, directory=tmp_path, executor="ray", ray_address="127.0.0.1:1")


def test_a_missing_executor_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install, or which executors exist."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RunError, match=r"mlrcbench\[ray\]"):
        run(["baseline"], TEMPLATE, directory=tmp_path, executor="ray")
    with pytest.raises(RunError, match="Known: local, ray"):
        run(["baseline"], TEMPLATE, directory=tmp_path, executor="rya")


def test_a_node_refuses_what_it_cannot_see_or_would_build_differently(tmp_path: Path) -> None:
    """Another file system or another secret is a failure of the infrastructure, with its remedy."""
    plan = Plan(("baseline",), ("_template",))
    (one,) = plan
    request = request_for(tmp_path, plan, one, None)
    unseen = _play_on_node(request, "")
    assert (unseen.outcome, unseen.improvement) == ("infrastructure failed", 0.0)
    assert "all share" in unseen.reason
    plan.write(tmp_path)
    assert "secret" in _play_on_node(request, "that of another machine").reason
