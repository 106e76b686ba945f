"""Preparing instances: several at once, continued after an end, and one failure stops no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.catalog.competition import Competition
from mlrcbench.cli import main
from tests.conftest import copy_of_template


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without instances."""
    monkeypatch.setenv("MLRCBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def built(home: Path) -> int:
    """The number of instances in a home."""
    return len(list(home.glob("instances/*/*/manifest.json")))


def test_instances_are_built_once(fresh: Path) -> None:
    """Several processes build them; a second call takes them from the cache."""
    reported: list[mlrcbench.Prepared] = []
    results = mlrcbench.prepare("_template", 5, jobs=2, on_prepared=reported.append)
    assert [one.seed for one in results] == list(range(5))
    assert sorted(one.seed for one in reported) == list(range(5))
    assert built(fresh) == 5
    roots = [one.instance.root.stat().st_mtime_ns for one in results if one.instance]
    again = mlrcbench.prepare("_template", [3, 1, 3], jobs=3)
    assert [one.seed for one in again] == [3, 1]
    assert [one.instance.root.stat().st_mtime_ns for one in again if one.instance] == [roots[3], roots[1]]


def test_a_failure_stops_nothing(fresh: Path, tmp_path: Path) -> None:
    """A failure is reported with its reason, and the next call tries the instance again."""
    folder = copy_of_template(tmp_path)
    text = (folder / "data.py").read_text()
    flaw = f"    if not __import__('os').path.exists({str(tmp_path / 'fixed')!r}) and seed % 2:\n"
    flaw += "        raise RuntimeError('this seed is odd')\n    world ="
    (folder / "data.py").write_text(text.replace("    world =", flaw))
    competition = Competition(folder)
    results = mlrcbench.prepare(competition, 8, jobs=2, secret="odd and even")
    failed = [one for one in results if one.instance is None]
    assert 0 < len(failed) < 8
    assert all("this seed is odd" in one.error for one in failed)
    assert built(fresh) == 8 - len(failed)
    (tmp_path / "fixed").touch()
    assert all(one.instance for one in mlrcbench.prepare(competition, 8, jobs=2, secret="odd and even"))


def test_it_can_be_stopped(fresh: Path, tmp_path: Path) -> None:
    """Builds that are running end and leave nothing; instances that were built stay."""
    folder = copy_of_template(tmp_path)
    text = (folder / "data.py").read_text()
    (folder / "data.py").write_text(
        text.replace("    world =", "    import time; time.sleep(600)\n    world =")
    )
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    assert mlrcbench.prepare(Competition(folder), 9, jobs=2, stop=stop) == []
    assert not list(fresh.glob("instances/*/.building-*"))


def test_a_killed_call_can_be_repeated(fresh: Path) -> None:
    """An unfinished build is never used as an instance."""
    code = "import mlrcbench; mlrcbench.prepare('_template', 50, jobs=2)"
    process = subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ))
    while built(fresh) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = built(fresh)
    assert before < 50
    results = mlrcbench.prepare("_template", before + 2, jobs=2)
    assert all(one.instance for one in results)


def test_wrong_calls_are_refused() -> None:
    """The errors say what is wrong."""
    with pytest.raises(mlrcbench.RegistryError, match="at least 1"):
        mlrcbench.prepare("_template", 1, jobs=0)
    with pytest.raises(mlrcbench.RegistryError, match="no tier"):
        mlrcbench.prepare("_template", 1, tier="ful")


def test_the_command_line_prepares(fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints a line for each instance."""
    arguments = ("prepare", "_template", "--instances", "4", "--first", "10", "--jobs", "2", "--quiet")
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[1] for line in lines) == ["10:", "11:", "12:", "13:"]
    assert built(fresh) == 4
