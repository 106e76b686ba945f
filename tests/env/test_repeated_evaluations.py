"""Files that were evaluated before are not run again: they have the artefacts and the score that they had."""

from __future__ import annotations

from pathlib import Path

import mlrcbench
from tests.conftest import body

# The clock decides, as it does for a method that sets no seed.
LUCK = """import time
import numpy as np

def predict(train, x):
    print("trained")
    return np.full(len(x), time.time_ns() % 1000003 / 1000003)
"""
AGAIN = "[these files were evaluated before; this is the result that they had]\n"


def test_the_same_files_have_one_score(env: mlrcbench.ResearchEnv) -> None:
    """Evaluating again is not a second chance; a changed file, or another split, is evaluated."""
    body(env, mlrcbench.WriteFile("method.py", LUCK))
    first = body(env, mlrcbench.Evaluate())
    second = body(env, mlrcbench.Evaluate())
    assert second.startswith(AGAIN)
    assert second.removeprefix(AGAIN).splitlines()[:-1] == first.splitlines()[:-1]
    assert env.evaluate("dev").value == env.evaluate("dev").value
    body(env, mlrcbench.WriteFile("method.py", f"{LUCK}# another seed\n"))
    third = body(env, mlrcbench.Evaluate())
    assert AGAIN not in third
    assert third.splitlines()[0] != first.splitlines()[0]
    body(env, mlrcbench.WriteFile("method.py", LUCK))
    assert body(env, mlrcbench.Evaluate()).startswith(AGAIN)
    assert env.evaluate("test").value == env.evaluate("test").value


def test_a_record_has_the_files_of_each(env: mlrcbench.ResearchEnv) -> None:
    """The record keeps artefacts for each evaluation, so that each can be scored again."""
    body(env, mlrcbench.WriteFile("method.py", LUCK))
    for _ in range(3):
        body(env, mlrcbench.Evaluate())
    body(env, mlrcbench.Submit())
    assert env.record is not None
    entries = mlrcbench.rescore(env.record)
    assert [entry.matches for entry in entries] == [True] * 4


def test_what_had_no_score_runs_again(env: mlrcbench.ResearchEnv) -> None:
    """A method that failed once is given another run: the next may differ."""
    body(env, mlrcbench.WriteFile("method.py", "raise SystemExit(3)\n"))
    assert all(AGAIN not in body(env, mlrcbench.Evaluate()) for _ in range(2))


def test_after_a_restore_files_run_again(env: mlrcbench.ResearchEnv, tmp_path: Path) -> None:
    """An episode that continues from a snapshot has a record of its own."""
    body(env, mlrcbench.WriteFile("method.py", LUCK))
    snapshot = env.snapshot()
    first = body(env, mlrcbench.Evaluate())
    env.restore(snapshot)
    second = body(env, mlrcbench.Evaluate())
    assert AGAIN not in second
    assert second.splitlines()[0] != first.splitlines()[0]
