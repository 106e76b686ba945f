"""Ray: episodes as actors, and PPO of RLlib on the numeric environment, by the examples."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")

EXAMPLES = Path(__file__).parents[2] / "examples" / "integrations"


@pytest.fixture
def folder() -> Iterator[str]:
    """A folder for Ray's sockets, which need a short path."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as path:
        yield path


def _run(name: str, folder: str, *options: str) -> str:
    environment = {**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_TMPDIR": folder}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *options],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_actors_play_episodes(folder: str) -> None:
    """Two play at once, up to the reward."""
    assert len(re.findall(r"return [+-]0\.\d+", _run("ray_actors.py", folder))) == 2


@pytest.mark.slow
def test_ppo_trains_on_the_menu(folder: str) -> None:
    """RLlib's own loop collects episodes and updates; every mean return is within the clip."""
    pytest.importorskip("torch")
    pytest.importorskip("ray.rllib")
    output = _run("rllib_ppo.py", folder, "--iterations", "2")
    curve = [float(value) for value in re.findall(r"mean return (\S+)", output)]
    assert len(curve) == 2
    assert all(-1 <= value <= 1 for value in curve)
