"""Replay finds what was forged in a record, wherever it stands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlrcbench
from mlrcbench import Evaluate, Submit, WriteFile
from tests.env.test_research_env import BETTER, make


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of an episode with rewards on the way, and with an evaluation of the host."""
    folder = tmp_path_factory.mktemp("played")
    with make(folder, reward="shaped") as env:
        env.reset(seed=0)
        env.step(WriteFile("method.py", BETTER))
        env.step(Evaluate())
        env.evaluate("dev")
        env.step(Submit())
        assert env.record is not None
        return env.record


def _forge(played: Path, tmp_path: Path, change: Callable[[list[dict[str, Any]]], Any]) -> Path:
    """A copy of a record with other lines."""
    copy = tmp_path / "forged"
    shutil.copytree(played, copy)
    path = copy / "record.jsonl"
    entries = [json.loads(line) for line in path.read_text("ascii").splitlines()]
    change(entries)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), "ascii")
    return copy


def _of_kind(entries: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [entry for entry in entries if entry["kind"] == kind]


def test_an_honest_record_is_found_honest(played: Path, tmp_path: Path) -> None:
    """Copied as it is, with an evaluation that the host asked for and the replay does not repeat."""
    copy = _forge(played, tmp_path, list)
    replay = mlrcbench.replay(copy)
    assert (replay.steps, replay.difference) == (3, None)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_forged_reward_is_found(step: int, played: Path, tmp_path: Path) -> None:
    """At whichever step, and however small the forgery."""

    def change(entries: list[dict[str, Any]]) -> None:
        _of_kind(entries, "step")[step - 1]["reward"] += 1e-9

    difference = mlrcbench.replay(_forge(played, tmp_path, change)).difference
    assert difference is not None
    assert f"step {step}" in difference
    assert "reward" in difference


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_missing_evaluation_is_found(split: str, played: Path, tmp_path: Path) -> None:
    """The bodies and the rewards are all there, and the evaluation's line is not."""

    def change(entries: list[dict[str, Any]]) -> None:
        agents = [entry for entry in _of_kind(entries, "evaluation") if entry["by"] == "agent"]
        entries.remove(next(entry for entry in agents if entry["split"] == split))

    difference = mlrcbench.replay(_forge(played, tmp_path, change)).difference
    assert difference is not None
    assert "evaluations" in difference


def test_an_added_evaluation_is_found(played: Path, tmp_path: Path) -> None:
    """One of the host's that claims to be the agent's."""

    def change(entries: list[dict[str, Any]]) -> None:
        for entry in _of_kind(entries, "evaluation"):
            entry["by"] = "agent"

    difference = mlrcbench.replay(_forge(played, tmp_path, change)).difference
    assert difference is not None
    assert "evaluations" in difference


@pytest.mark.parametrize(
    ("key", "value"), [("value", 0.0), ("outcome", "timeout"), ("reason", "x"), ("details", {"a": 1.0})]
)
def test_a_forged_score_is_found(key: str, value: Any, played: Path, tmp_path: Path) -> None:
    """Its value, its outcome, its reason, its details."""

    def change(entries: list[dict[str, Any]]) -> None:
        score = _of_kind(entries, "evaluation")[-1]["score"]
        score[key] = value
        if key == "outcome":
            score["value"] = score["improvement"] = None

    difference = mlrcbench.replay(_forge(played, tmp_path, change)).difference
    assert difference is not None
    assert "the score was" in difference


def test_a_forged_body_is_found(played: Path, tmp_path: Path) -> None:
    """The line that differs is named, also where the forged text only has one line more."""

    def change(entries: list[dict[str, Any]]) -> None:
        _of_kind(entries, "step")[0]["body"] += "\nand a line more"

    difference = mlrcbench.replay(_forge(played, tmp_path, change)).difference
    assert difference is not None
    assert "step 1" in difference
    assert "and a line more" in difference
