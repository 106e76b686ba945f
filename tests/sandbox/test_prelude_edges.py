"""What helper processes may run first, for the coverage session, reaches them and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench import Evaluate, Run
from mlrcbench.sandbox.fork_client import forget_fork_server, with_prelude
from tests.conftest import SANDBOX, body

VARIABLE = "MLRCBENCH_TEST_PRELUDE"


@pytest.fixture
def prelude(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A prelude that notes the kind of interpreter and the variable, in a line for each process."""
    path, notes = tmp_path / "prelude.py", tmp_path / "notes"
    path.write_text(
        f"import os, sys\nwith open({str(notes)!r}, 'a') as file:\n"
        f"    print('S' if sys.flags.no_site else 'site', {VARIABLE!r} in os.environ, file=file)\n"
    )
    monkeypatch.setenv(VARIABLE, str(path))
    forget_fork_server()
    yield notes
    forget_fork_server()


def test_without_the_variable_the_code_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is put before it, nor for a variable that is empty."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert with_prelude("print(1)") == "print(1)"
    monkeypatch.setenv(VARIABLE, "")
    assert with_prelude("print(1)") == "print(1)"


def test_helper_processes_run_it_and_inherit_no_variable(prelude: Path, tmp_path: Path) -> None:
    """The supervisor's template and the trusted child do; a command neither has the variable nor runs it."""
    with mlrcbench.make("_template", sandbox=SANDBOX, records=tmp_path / "records") as env:
        env.reset(seed=0)
        text = body(env, Run("env; python3 -c pass"))
        env.step(Evaluate())
    assert "[exit status 0]" in text
    assert VARIABLE not in text
    lines = prelude.read_text().splitlines()
    assert sorted(set(lines)) == ["S False", "site False"]
    assert lines.count("S False") == 1
