"""From a run to its report: killed in the middle and continued, with all numbers computed again.

By default the template is played; with MLRCBENCH_TEST_ALL=1 all listed competitions are.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import mlrcbench
from mlrcbench.cli import main
from tests.runs.test_runs import _alive, _below, _until

CHEAP = ["_template"]
ALL = os.environ.get("MLRCBENCH_TEST_ALL") == "1"
COMPETITIONS = [card.id for card in mlrcbench.list_competitions()] if ALL else CHEAP
AGENTS = ["baseline", "reference"]
INSTANCES, TRIALS = 3, 2
Pair = tuple[str, str]  # agent and competition
EPISODES = len(COMPETITIONS) * len(AGENTS) * INSTANCES * TRIALS
COMMAND = ["run", *COMPETITIONS, "--agent", *AGENTS, "--instances", str(INSTANCES), "--trials", str(TRIALS)]


@pytest.mark.slow
def test_a_run_is_killed_continued_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Finished episodes stay as they are, the rest is played, and the report agrees with the records."""
    root = tmp_path / "run"
    command = [*COMMAND, "--jobs", "2", "--out", str(root), "--quiet"]
    finished = _kill_in_the_middle(command, root)
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    results = [json.loads(path.read_text()) for path in root.glob("episodes/*/result.json")]
    assert len(results) == EPISODES
    assert {one["outcome"] for one in results} == {"played"}

    files = {kind: tmp_path / f"report.{kind}" for kind in ("html", "json", "markdown", "csv")}
    options = [option for kind, path in files.items() for option in (f"--{kind}", str(path))]
    assert main(["report", str(root), *options, "--quiet"]) == 0
    report = json.loads(files["json"].read_text())
    gains, wins = _gains_of_records(root)
    assert sum(map(len, gains.values())) == EPISODES
    _check_leaderboard(report["leaderboard"], gains, wins)
    _check_the_rest(report, gains, wins)
    assert len(files["csv"].read_text().splitlines()) == EPISODES + 1
    assert f"{EPISODES} episodes" in files["markdown"].read_text()
    assert files["html"].read_text().count("<figure>") >= 2
    assert "reference" in capsys.readouterr().out


def _kill_in_the_middle(command: list[str], root: Path) -> dict[Path, int]:
    """Start the command, kill it after some episodes, and wait until all its processes are dead.

    Returns:
        The results that it wrote, and when it wrote them.
    """
    process = subprocess.Popen([sys.executable, "-m", "mlrcbench", *command], stdout=subprocess.DEVNULL)
    _until(lambda: len(list(root.glob("episodes/*/result.json"))) >= 2, 600.0)
    below = _below(process.pid)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    _until(lambda: not any(_alive(pid) for pid in below))
    finished = {path: path.stat().st_mtime_ns for path in root.glob("episodes/*/result.json")}
    assert 2 <= len(finished) < EPISODES
    return finished


def _gains_of_records(root: Path) -> tuple[dict[Pair, list[float]], Counter[Pair]]:
    """Relative improvements on test, and the number of those beyond noise, from records and cards alone."""
    gains: dict[Pair, list[float]] = {}
    wins: Counter[Pair] = Counter()
    for folder in sorted(root.glob("episodes/*")):
        result = json.loads((folder / "result.json").read_text())
        lines = (folder / result["record"] / "record.jsonl").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        header = entries[0]
        assert header["instance"] == result["assignment"]["instance"]
        (score,) = [
            entry["score"] for entry in entries if entry["kind"] == "evaluation" and entry["split"] == "test"
        ]
        anchors = mlrcbench.get_competition(header["competition"]).card.tier("mini").anchors["test"]
        low, high = anchors.baseline.value, anchors.target.value
        key = result["assignment"]["agent"], header["competition"]
        gain = (score["value"] - low) / (high - low)
        error = math.hypot(score["error"], anchors.baseline.between) / abs(high - low)
        gains.setdefault(key, []).append(gain)
        wins[key] += gain - 1.645 * error > 0.05
    return gains, wins


def _check_leaderboard(
    rows: list[dict[str, Any]], gains: dict[Pair, list[float]], wins: Counter[Pair]
) -> None:
    """Check means, the mean of means, the interquartile mean, successes, and the order by mean."""
    assert sorted(row["agent"] for row in rows) == AGENTS
    assert [row["mean"] for row in rows] == sorted((row["mean"] for row in rows), reverse=True)
    for row in rows:
        by_competition = {name: values for (agent, name), values in gains.items() if agent == row["agent"]}
        means = {name: math.fsum(values) / len(values) for name, values in by_competition.items()}
        assert row["means"] == pytest.approx(means)
        assert row["mean"] == pytest.approx(math.fsum(means.values()) / len(means))
        pooled = sorted(value for values in by_competition.values() for value in values)
        assert row["robust"]["value"] == pytest.approx(_middle_half(pooled))
        assert row["robust"]["lower"] <= row["robust"]["value"] <= row["robust"]["upper"]
        assert row["success"] == pytest.approx(
            sum(count for (agent, _), count in wins.items() if agent == row["agent"]) / len(pooled)
        )
        assert row["failures"] == {}


def _middle_half(values: list[float]) -> float:
    """The interquartile mean, of each value four times, so that a quarter of them is a whole number."""
    four = [value for value in values for _ in range(4)]
    half = four[len(values) : -len(values)]
    return math.fsum(half) / len(half)


def _check_the_rest(report: dict[str, Any], gains: dict[Pair, list[float]], wins: Counter[Pair]) -> None:
    """Check best trials, pass@k, and the line for each episode."""
    for (agent, name), values in gains.items():
        assert report["best"][agent][name] == pytest.approx(max(values))
    for agent in AGENTS:
        per = INSTANCES * TRIALS
        successes = [wins[agent, name] for name in COMPETITIONS]
        for k, chance in enumerate(report["pass_at"][agent], 1):
            misses = [math.comb(per - count, k) / math.comb(per, k) for count in successes]
            assert chance == pytest.approx(1 - math.fsum(misses) / len(misses))
    counts = Counter((one["agent"], one["competition"]) for one in report["episodes"])
    assert set(counts.values()) == {INSTANCES * TRIALS}
