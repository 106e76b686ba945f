"""What tests of full tiers share: a home of their own, and an episode of the starter."""

from __future__ import annotations

from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.competition import Competition


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without instances or downloads."""
    monkeypatch.setenv("MLRCBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def play_starter(
    competition: str | Competition, records: Path, monkeypatch: pytest.MonkeyPatch | None = None
) -> mlrcbench.Score:
    """The score on test of the starter as it is, through the sealed evaluation; it is scored again too."""
    if monkeypatch is not None:
        monkeypatch.setattr("mlrcbench.verify.get_competition", lambda _: competition)
    with mlrcbench.make(competition, tier="full", records=records) as env:
        observation, _ = env.reset(seed=0)
        assert "GPU" in observation["text"]
        *_, terminated, _, info = env.step(mlrcbench.Submit())
        assert terminated
        assert info["test_score"]["outcome"] == "scored", info["test_score"]
        assert env.record is not None
        assert all(entry.matches for entry in mlrcbench.rescore(env.record))
        return mlrcbench.Score.from_json(info["test_score"])
