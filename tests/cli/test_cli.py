"""The command line: what it prints and how it exits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and error of one command."""
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize("agent", ["reference", "baseline", "random"])
def test_an_episode_is_played_replayed_and_scored(
    agent: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Every scripted agent can be played; a table is printed at the end."""
    options = ("--sandbox", "process", "--records", str(tmp_path))
    status, out, err = run(capsys, "run", "_template", "--agent", agent, *options)
    assert status == 0
    assert "baseline, test" in out
    assert "step 1:" in err
    record = next(tmp_path.iterdir())
    again = tmp_path / "again"
    status, out, _ = run(capsys, "replay", str(record), "--records", str(again))
    assert (status, "every observation and score is the same" in out) == (0, True)
    status, out, _ = run(capsys, "score", str(record))
    assert (status, "DIFFERS" in out) == (0, False)
    lines = (record / "record.jsonl").read_text()
    (record / "record.jsonl").write_text(lines.replace("submitted; the", "finished; the"))
    status, out, _ = run(capsys, "replay", str(record), "--records", str(again))
    assert (status, "differs at step" in out) == (1, True)


def test_reference_beats_baseline(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The return of the reference is near 1, that of the baseline near 0."""
    returns = {}
    for agent in ("baseline", "reference"):
        options = ("--agent", agent, "--sandbox", "process", "--records", str(tmp_path), "--quiet")
        _, out, _ = run(capsys, "run", "_template", *options)
        line = next(line for line in out.splitlines() if line.startswith("return"))
        returns[agent] = float(line.split()[1])
    assert returns["reference"] > 0.9
    assert abs(returns["baseline"]) < 0.3


def test_listing_and_showing(capsys: pytest.CaptureFixture[str]) -> None:
    """The commands print names, cards and statements, and JSON for scripts."""
    status, out, _ = run(capsys, "list", "--json")
    assert status == 0
    assert [card["id"] for card in json.loads(out)] == [card.id for card in mlrcbench.list_competitions()]
    status, out, _ = run(capsys, "show", "_template", "--statement")
    assert "mlrcbench/Template-v0" in out
    assert "# A hidden line" in out


def test_preparing_builds_instances(capsys: pytest.CaptureFixture[str]) -> None:
    """It builds the requested number of instances."""
    status, out, _ = run(capsys, "prepare", "_template", "--instances", "3", "--secret", "cli test")
    assert status == 0
    folders = [Path(line.split()[2]) for line in out.splitlines()]
    assert len({*folders}) == 3
    assert all((folder / "manifest.json").exists() for folder in folders)


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (["run", "_templat"], 2, "unknown competition '_templat'"),
        (["show", "_template", "--tier"], 2, ""),
        (["run", "_template", "--tier", "full"], 2, "no tier 'full'"),
        (["replay", "/nowhere"], 2, "cannot be read"),
        (["score", "/nowhere"], 2, "cannot be read"),
    ],
)
def test_wrong_calls_exit_with_two(
    arguments: list[str], status: int, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, without a traceback, says how to fix it."""
    try:
        assert main(arguments) == status
    except SystemExit as exit_:
        assert exit_.code == status
    captured = capsys.readouterr()
    assert error in captured.err
    assert "Traceback" not in captured.err


def test_doctor_says_what_works(capsys: pytest.CaptureFixture[str]) -> None:
    """It exits with 0 where nothing is missing."""
    status, out, _ = run(capsys, "doctor")
    assert status == 0
    assert "mlrcbench" in out


def test_it_is_a_program() -> None:
    """It can be run as a module."""
    done = subprocess.run(
        [sys.executable, "-m", "mlrcbench", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"mlrcbench {mlrcbench.__version__}\n"
