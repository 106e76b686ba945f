"""The public API is what was accepted last."""

from __future__ import annotations

import pytest

import mlrcbench
from tools.api import ACCEPT, differences, main, read_snapshot, read_source


def test_the_api_is_as_it_was_accepted() -> None:
    """Names, parameters, defaults and types; a change is accepted by one command."""
    lines = differences(read_snapshot(), read_source())
    if lines:
        changes = "\n".join(lines)
        pytest.fail(f"the public API has changed. If that is meant, accept it: {ACCEPT}\n{changes}")


def test_every_public_name_is_in_the_snapshot() -> None:
    """The snapshot, which is read from the source, holds what can be imported."""
    names = {name for name in read_snapshot()["mlrcbench"] if "." not in name}
    assert names == set(mlrcbench.__all__)


def test_every_kind_of_change_is_seen() -> None:
    """A name that is gone, a new one, and another parameter."""
    old = {"mlrcbench": {"make": "(competition: str)", "run": "()"}}
    new = {"mlrcbench": {"make": "(name: str)", "play": "()"}}
    assert differences(old, old) == []
    assert differences(old, new) == [
        "changed: mlrcbench: make(competition: str)",
        "     to: mlrcbench: make(name: str)",
        "added: mlrcbench: play()",
        "removed: mlrcbench: run()",
    ]


def test_the_command_compares(capsys: pytest.CaptureFixture[str]) -> None:
    """By itself it changes nothing and says that nothing has changed."""
    assert main([]) == 0
    assert "as it was accepted" in capsys.readouterr().out
