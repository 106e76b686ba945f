"""An episode on a busy machine: what an evaluation may take is counted in CPU seconds."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlrcbench
from tests.conftest import copy_of_template

METHOD = """
import os
import numpy as np

def predict(train, x):
    while sum(os.times()[:2]) < {seconds}:
        pass
    return np.zeros(len(x))
"""


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Some processes that never wait."""
    command = [sys.executable, "-S", "-c", "while True: pass"]
    # Each in a session of its own: some kernels share cores fairly between sessions, not between processes.
    others = [subprocess.Popen(command, start_new_session=True) for _ in range(processes)]
    try:
        yield
    finally:
        for one in others:
            one.kill()
            one.wait()


@pytest.mark.slow
def test_others_do_not_decide_whether_an_evaluation_is_valid(tmp_path: Path) -> None:
    """Beside busy processes, four for each core, a method has its score; alone, a slower one has none."""
    folder = copy_of_template(tmp_path)
    card = folder / "card.toml"
    card.write_text(card.read_text().replace("evaluation_cpu_seconds = 20", "evaluation_cpu_seconds = 4"))
    scores = []
    for processes, seconds in ((0, 2), (4 * (os.cpu_count() or 2), 2), (0, 20)):
        with busy(processes), mlrcbench.make(mlrcbench.Competition(folder)) as env:
            env.reset(seed=0)
            env.step(mlrcbench.WriteFile("method.py", METHOD.format(seconds=seconds)))
            scores.append(env.evaluate("dev"))
    alone, beside, slower = scores
    assert (alone.outcome, beside.outcome, slower.outcome) == ("scored", "scored", "timeout")
    assert beside.value == alone.value
    assert beside.wall_seconds > 4 > beside.cpu_seconds  # the limit, had it been one of wall time
    assert slower.reason == "'python main.py predict' used more than 4 s of CPU time"
