"""Examples: each of them runs as a user would run it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
LEARNER = FOLDER / "policy_gradient.py"
EXAMPLES = sorted(FOLDER.glob("*.py"))


def run(path: Path, folder: Path, *arguments: str) -> str:
    """The output of an example, which is run with warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in EXAMPLES if path != LEARNER], ids=lambda path: path.stem)
def test_example_runs(path: Path, tmp_path: Path) -> None:
    """The example runs to its end without a warning, and prints something."""
    assert run(path, tmp_path).strip()


@pytest.mark.slow
def test_a_policy_learns(tmp_path: Path) -> None:
    """The mean return rises in a few updates; with its seeds, the curve is the same everywhere."""
    output = run(LEARNER, tmp_path, "--updates", "8", "--envs", "8", "--plot", "curve.png")
    curve = [float(value) for value in re.findall(r"mean return (\S+)", output)]
    assert len(curve) == 8
    assert sum(curve[-3:]) / 3 > curve[0] + 0.3
    assert (tmp_path / "curve.png").exists() or "matplotlib is not installed" in output
