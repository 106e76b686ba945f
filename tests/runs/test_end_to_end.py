"""The whole way: a run that is killed in the middle and gone on with, its report, its numbers again.

By default on the competitions that cost least. MLRCBENCH_TEST_ALL=1 takes all that are listed.
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
EPISODES = len(COMPETITIONS) * len(AGENTS) * INSTANCES * TRIALS
COMMAND = ["run", *COMPETITIONS, "--agent", *AGENTS, "--instances", str(INSTANCES), "--trials", str(TRIALS)]


@pytest.mark.slow
def test_a_run_is_killed_gone_on_with_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Finished episodes are kept as they are, the rest is played, and the report says what records say."""
    root = tmp_path / "run"
    words = [*COMMAND, "--jobs", "2", "--out", str(root), "--quiet"]
    kept = _kill_in_the_middle(words, root)
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    results = [json.loads(path.read_text()) for path in root.glob("episodes/*/result.json")]
    assert len(results) == EPISODES
    assert {one["outcome"] for one in results} == {"played"}

    files = {kind: tmp_path / f"report.{kind}" for kind in ("html", "json", "markdown", "csv")}
    options = [word for kind, path in files.items() for word in (f"--{kind}", str(path))]
    assert main(["report", str(root), *options, "--quiet"]) == 0
    found = json.loads(files["json"].read_text())
    gains = _gains_of_records(root)
    assert sum(map(len, gains.values())) == EPISODES
    _check_leaderboard(found["leaderboard"], gains)
    _check_the_rest(found, gains)
    assert len(files["csv"].read_text().splitlines()) == EPISODES + 1
    assert f"{EPISODES} episodes" in files["markdown"].read_text()
    assert files["html"].read_text().count("<figure>") >= 2
    assert "reference" in capsys.readouterr().out


def _kill_in_the_middle(words: list[str], root: Path) -> dict[Path, int]:
    """Start the command, kill it with SIGKILL when it has played some, wait until all of it is dead.

    Returns:
        The results that were there, and when they were written.
    """
    process = subprocess.Popen([sys.executable, "-m", "mlrcbench", *words], stdout=subprocess.DEVNULL)
    _until(lambda: len(list(root.glob("episodes/*/result.json"))) >= 2, 600.0)
    below = _below(process.pid)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    _until(lambda: not any(_alive(pid) for pid in below))
    kept = {path: path.stat().st_mtime_ns for path in root.glob("episodes/*/result.json")}
    assert 2 <= len(kept) < EPISODES
    return kept


def _gains_of_records(root: Path) -> dict[tuple[str, str], list[float]]:
    """(agent, competition) -> relative improvements on test, from records and cards alone."""
    gains: dict[tuple[str, str], list[float]] = {}
    for folder in sorted(root.glob("episodes/*")):
        told = json.loads((folder / "result.json").read_text())
        lines = (folder / told["record"] / "record.jsonl").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        header = entries[0]
        assert header["instance"] == told["assignment"]["instance"]
        (value,) = [
            entry["score"]["value"]
            for entry in entries
            if entry["kind"] == "evaluation" and entry["split"] == "test"
        ]
        anchors = mlrcbench.get_competition(header["competition"]).card.tier("mini").anchors["test"]
        low, high = anchors.baseline.value, anchors.target.value
        key = told["assignment"]["agent"], header["competition"]
        gains.setdefault(key, []).append((value - low) / (high - low))
    return gains


def _check_leaderboard(rows: list[dict[str, Any]], gains: dict[tuple[str, str], list[float]]) -> None:
    """Means, the mean of means, the interquartile mean, successes; ordered by the mean."""
    assert sorted(row["agent"] for row in rows) == AGENTS
    assert [row["mean"] for row in rows] == sorted((row["mean"] for row in rows), reverse=True)
    for row in rows:
        mine = {name: values for (agent, name), values in gains.items() if agent == row["agent"]}
        means = {name: math.fsum(values) / len(values) for name, values in mine.items()}
        assert row["means"] == pytest.approx(means)
        assert row["mean"] == pytest.approx(math.fsum(means.values()) / len(means))
        pooled = sorted(value for values in mine.values() for value in values)
        assert row["robust"]["value"] == pytest.approx(_middle_half(pooled))
        assert row["robust"]["lower"] <= row["robust"]["value"] <= row["robust"]["upper"]
        assert row["success"] == pytest.approx(sum(value > 0.05 for value in pooled) / len(pooled))
        assert row["failures"] == {}


def _middle_half(values: list[float]) -> float:
    """Their mean, each value four times, so that a quarter of them is a whole number."""
    four = [value for value in values for _ in range(4)]
    half = four[len(values) : -len(values)]
    return math.fsum(half) / len(half)


def _check_the_rest(found: dict[str, Any], gains: dict[tuple[str, str], list[float]]) -> None:
    """Best trials, pass@k, one line for each episode."""
    for (agent, name), values in gains.items():
        assert found["best"][agent][name] == pytest.approx(max(values))
    for agent in AGENTS:
        per = INSTANCES * TRIALS
        wins = [sum(value > 0.05 for value in gains[agent, name]) for name in COMPETITIONS]
        for k, chance in enumerate(found["pass_at"][agent], 1):
            misses = [math.comb(per - count, k) / math.comb(per, k) for count in wins]
            assert chance == pytest.approx(1 - math.fsum(misses) / len(misses))
    counts = Counter((one["agent"], one["competition"]) for one in found["episodes"])
    assert set(counts.values()) == {INSTANCES * TRIALS}
