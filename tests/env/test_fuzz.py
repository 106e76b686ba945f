"""A sample of what `nox -s fuzz` plays for hours: random actions, and random hostile workspaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import SANDBOX
from tests.env.fuzzing.play import make, play_actions, play_workspace


def test_no_action_raises(tmp_path: Path) -> None:
    """Each is answered and recorded."""
    with make(tmp_path, SANDBOX) as env:
        play_actions(env, range(400))


@pytest.mark.parametrize("seed", range(6))
def test_no_workspace_loses_an_episode(seed: int, tmp_path: Path) -> None:
    """Each episode ends with a score and a footer, and the next one finds everything as it was."""
    with make(tmp_path, SANDBOX) as env:
        assert play_workspace(env, seed) in ("scored", "invalid")
