"""Trackers of experiments get the episodes of a run, by their own offline modes, and show them again."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

import mlrcbench
from mlrcbench.cli import main


@pytest.fixture(scope="module")
def played_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two episodes."""
    folder = tmp_path_factory.mktemp("run")
    mlrcbench.run(["baseline", "reference"], ["_template"], directory=folder)
    return folder


def _results(run: Path) -> dict[str, mlrcbench.Result]:
    return {one.assignment.name: one for one in mlrcbench.read_results(run)}


def test_wandb(played_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its offline mode keeps each episode's curves and results in a folder of its own."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert main(["export", "wandb", str(played_run)]) == 0
    wandb.teardown()  # as at the end of the program, which writes what is left
    files = list(tmp_path.rglob("offline-run-*/run-*.wandb"))
    assert len(files) == 2
    for text in (path.read_bytes() for path in files):
        assert all(name in text for name in (b"dev/improvement", b"test/improvement", b"_template"))


def test_mlflow(played_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own client reads back parameters, curves and results."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(tmp_path.as_uri())
    assert main(["export", "mlflow", str(played_run), "--project", "mine"]) == 0
    client: Any = mlflow.MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert {one.info.run_name for one in runs} == _results(played_run).keys()
    for one in runs:
        result = _results(played_run)[one.info.run_name]
        assert one.data.params["agent"] == result.assignment.agent
        assert one.data.metrics["test/improvement"] == pytest.approx(result.improvement)
        assert one.data.tags["outcome"] == "played"
        curve = client.get_metric_history(one.info.run_id, "dev/improvement")
        assert [point.value for point in curve] == [pytest.approx(one["improvement"]) for one in result.dev]


def test_trackio(played_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own storage reads back the curves and the results."""
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    assert main(["export", "trackio", str(played_run), "--project", "mine"]) == 0
    storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
    assert set(storage.get_runs("mine")) == _results(played_run).keys()
    for name, result in _results(played_run).items():
        rows = storage.get_logs("mine", name)
        assert [row["dev/improvement"] for row in rows if "dev/improvement" in row] == [
            pytest.approx(one["improvement"]) for one in result.dev
        ]
        assert rows[-1]["test/improvement"] == pytest.approx(result.improvement)


def test_a_tracker_that_is_missing_is_named(
    played_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence says what to install."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert main(["export", "mlflow", str(played_run)]) == 2
    assert "pip install mlflow-skinny" in capsys.readouterr().err
