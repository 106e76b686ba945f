"""A run whose directory lies behind a symbolic link, as where people link to a larger disk."""

from __future__ import annotations

from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.cli import main
from mlrcbench.runs import read_results, run


def test_a_run_behind_a_link_loses_no_episode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its results have their records, and its files are read through the link and through the folder."""
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    (result,) = run(["baseline"], ["_template"], directory=link / "run")
    assert (result.outcome, result.attempts) == ("played", ())
    for root in (link / "run", real / "run"):
        (again,) = read_results(root)
        assert again.record == result.record
        assert len(mlrcbench.read_record(again.folder / str(again.record)).steps) == result.steps
        assert main(["report", str(root), "--html", str(link / "report.html")]) == 0
    assert "none" in capsys.readouterr().out
    assert (real / "report.html").stat().st_size > 0
