"""What tests of full tiers share: a home of their own, and an episode of the starter."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

import mlrcbench
from mlrcbench.competition import Competition
from mlrcbench.score import SPLITS


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without instances or downloads."""
    monkeypatch.setenv("MLRCBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run_conversion(full: ModuleType, raw: Path, target: Path) -> Path:
    """A `full.py` by itself, in folders as the library makes them; returns `target`."""
    for path in (
        "public",
        *(f"private/{split}/{part}" for split in SPLITS for part in ("inputs", "answers")),
    ):
        (target / path).mkdir(parents=True)
    full.convert(raw, target / "public", target / "private")
    return target


def play_starter(
    competition: str | Competition, records: Path, monkeypatch: pytest.MonkeyPatch | None = None
) -> mlrcbench.Score:
    """The starter's score on test, through the sealed evaluation; nothing of test is in reach before."""
    if monkeypatch is not None:
        monkeypatch.setattr("mlrcbench.verify.get_competition", lambda _: competition)
    with mlrcbench.make(competition, tier="full", records=records) as env:
        observation, _ = env.reset(seed=0)
        assert "GPU" in observation["text"]
        root = env.competition.instance(0, "full").root
        for hidden in (root / "manifest.json", *(root / "private" / "test").rglob("*.*")):
            observation, *_ = env.step(mlrcbench.Run(f"head -c 1 '{hidden}'"))
            assert "[exit status 0]" not in observation["text"]
        *_, terminated, _, info = env.step(mlrcbench.Submit())
        assert terminated
        assert info["test_score"]["outcome"] == "scored", info["test_score"]
        assert env.record is not None
        assert all(entry.matches for entry in mlrcbench.rescore(env.record))
        return mlrcbench.Score.from_json(info["test_score"])
