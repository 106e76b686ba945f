"""What is visible inside: everything that is needed, and nothing of the library."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

import mlrcbench
from mlrcbench.sandbox import visible


def test_the_view_of_this_process() -> None:
    """Interpreter and system are in it; the library is not below any entry."""
    found = visible.view()
    package = str(Path(mlrcbench.__file__).parent)
    for path in (os.path.realpath(sys.executable), os.path.realpath(sys.prefix), "/usr/bin/env"):
        assert visible._covered(os.path.realpath(path), [os.path.realpath(root) for root in found.system])
    assert not visible._covered(package, found.entries)
    assert all(os.path.exists(path) for path in found.entries)


def test_entries_go_around_what_is_masked(tmp_path: Path) -> None:
    """Each folder above a masked path is replaced by its entries, and can be listed."""
    for name in ("lib/site/ours", "lib/site/other", "bin"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "lib" / "site" / "ours.pth").touch()
    masks = (f"{tmp_path}/lib/site/ours", f"{tmp_path}/lib/site/ours.pth")
    allowed, listed = visible._without([str(tmp_path)], masks)
    assert sorted(allowed) == [f"{tmp_path}/bin", f"{tmp_path}/lib/site/other"]
    assert sorted(listed) == [f"{tmp_path}", f"{tmp_path}/lib", f"{tmp_path}/lib/site"]


def test_a_link_to_what_is_masked_is_not_allowed(tmp_path: Path) -> None:
    """A link beside it does not lead around the mask."""
    (tmp_path / "ours").mkdir()
    (tmp_path / "link").symlink_to("ours")
    assert visible._without([str(tmp_path)], (f"{tmp_path}/ours",))[0] == []


@pytest.mark.parametrize(
    ("entry", "ours"),
    [
        ("mlrcbench", True),
        ("mlrcbench-1.0.dist-info", True),
        ("__editable___mlrcbench_1_0_finder.py", True),
        ("_mlrcbench.pth", True),
        ("acme_tasks", True),
        ("acme_tasks-2.dist-info", True),
        ("acme", False),
        ("numpy", False),
    ],
)
def test_names(entry: str, ours: bool) -> None:
    """The library and packages with competitions are recognised by name, under each spelling."""
    assert visible._is_of(entry, {"mlrcbench", "acme_tasks"}) == ours


def test_packages_with_competitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that registers competitions is hidden as the library is."""

    class Distribution(NamedTuple):
        name: str

    class Point(NamedTuple):
        value: str
        dist: Distribution

    monkeypatch.setattr(
        metadata, "entry_points", lambda **_: [Point("acme.tasks:all", Distribution("Acme-Tasks"))]
    )
    assert visible._competition_packages() == {"acme", "acme_tasks"}


def test_links_of_a_path(tmp_path: Path) -> None:
    """Each linked folder on the way is found."""
    (tmp_path / "real" / "bin").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    found = dict(visible._links(f"{tmp_path}/link/bin"))
    assert found[f"{tmp_path}/link"] == os.path.realpath(tmp_path / "real")


def test_a_checkout_is_hidden() -> None:
    """A library that runs from a checkout hides all of it."""
    paths = visible.library_paths()
    package = Path(mlrcbench.__file__).parent
    assert str(package) in paths
    if (package.parents[1] / "pyproject.toml").exists():
        assert str(package.parents[1]) in paths
