"""Helpers for tests of competitions: loading a file, running a conversion, and playing the starter."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import mlrcbench
from mlrcbench.catalog.competition import Competition
from mlrcbench.score import SPLITS


def load_module(path: Path) -> ModuleType:
    """A Python file that is not imported as a part of the package, such as one of a starter."""
    spec = importlib.util.spec_from_file_location(f"{path.parent.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_conversion(full: ModuleType, raw: Path, target: Path) -> Path:
    """Run a `full.py` by itself, in folders like those that the library makes; return `target`."""
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
    """The starter's score on test, through the sealed evaluation; before it, no file of test is readable."""
    if monkeypatch is not None:
        monkeypatch.setattr("mlrcbench.env.replay.get_competition", lambda _: competition)
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
