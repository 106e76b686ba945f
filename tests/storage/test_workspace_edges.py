"""The workspace's copies: what they hold and what they leave behind."""

from __future__ import annotations

import os
from pathlib import Path

from mlrcbench.storage.workspace import Workspace


def test_a_copy_shows_the_views_that_it_was_given(workspace: Workspace, tmp_path: Path) -> None:
    """And neither the original's views nor what stands in their place."""
    other = tmp_path / "other"
    other.mkdir()
    kept = workspace.clone(tmp_path / "kept", {})
    fresh = workspace.clone(tmp_path / "fresh", {"inputs": other})
    assert not os.path.lexists(kept.root / "data")
    assert not os.path.lexists(fresh.root / "data")
    assert os.readlink(fresh.root / "inputs") == str(other)


def test_a_copy_holds_nothing_of_a_reserved_name(workspace: Workspace, tmp_path: Path) -> None:
    """Neither files that a command put there, nor caches; what lies deeper is the agent's own."""
    (workspace.root / "data").unlink()
    for name in ("data", "inputs", "outputs", "artefacts", "lib/data", "__pycache__"):
        (workspace.root / name).mkdir(parents=True)
        (workspace.root / name / "planted").write_text("x")
    copy = workspace.clone(tmp_path / "copy", {})
    names = {path.relative_to(copy.root).as_posix() for path in copy.root.rglob("*")}
    assert "lib/data/planted" in names
    assert not any(
        name.split("/")[0] in {"data", "inputs", "outputs", "artefacts", "__pycache__"} for name in names
    )


def test_a_copy_of_a_copy_is_the_same(workspace: Workspace, tmp_path: Path) -> None:
    """What is kept is what is evaluated."""
    (workspace.root / "method.py").write_text("a = 2\n")
    (workspace.root / "main.py").write_text("print('forged')\n")
    first = workspace.clone(tmp_path / "first", {})
    second = first.clone(tmp_path / "second", {})
    texts = [(copy.text("method.py"), copy.text("main.py")) for copy in (first, second)]
    assert texts == [("a = 2\n", "print('main')\n")] * 2
