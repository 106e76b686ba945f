"""What commands may read: everything that they need, and nothing of the library."""

from __future__ import annotations

import dataclasses
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

import mlrcbench
from mlrcbench.sandbox import probe, readable


def test_the_view_of_this_process() -> None:
    """Interpreter and system are in the view; the library is not below any entry."""
    view = readable.view()
    package = str(Path(mlrcbench.__file__).parent)
    for path in (os.path.realpath(sys.executable), os.path.realpath(sys.prefix), "/usr/bin/env"):
        assert readable._covered(os.path.realpath(path), [os.path.realpath(root) for root in view.system])
    assert not readable._covered(package, view.entries)
    assert all(os.path.exists(path) for path in view.entries)


def test_entries_go_around_what_is_masked(tmp_path: Path) -> None:
    """Each folder above a masked path is replaced by its entries, and can be listed."""
    for name in ("lib/site/ours", "lib/site/other", "bin"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "lib" / "site" / "ours.pth").touch()
    masks = (f"{tmp_path}/lib/site/ours", f"{tmp_path}/lib/site/ours.pth")
    allowed, listed = readable._without([str(tmp_path)], masks)
    assert sorted(allowed) == [f"{tmp_path}/bin", f"{tmp_path}/lib/site/other"]
    assert sorted(listed) == [f"{tmp_path}", f"{tmp_path}/lib", f"{tmp_path}/lib/site"]


def test_a_link_to_what_is_masked_is_not_allowed(tmp_path: Path) -> None:
    """A link next to a masked path does not lead around the mask."""
    (tmp_path / "ours").mkdir()
    (tmp_path / "link").symlink_to("ours")
    assert readable._without([str(tmp_path)], (f"{tmp_path}/ours",))[0] == []


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
    assert readable._is_of(entry, {"mlrcbench", "acme_tasks"}) == ours


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
    assert readable._competition_packages() == {"acme", "acme_tasks"}


def test_links_of_a_path(tmp_path: Path) -> None:
    """Each link among the folders of a path is listed."""
    (tmp_path / "real" / "bin").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    links = dict(readable._links(f"{tmp_path}/link/bin"))
    assert links[f"{tmp_path}/link"] == os.path.realpath(tmp_path / "real")


def test_a_checkout_is_hidden() -> None:
    """A library that runs from a checkout hides the whole checkout."""
    paths = readable.library_paths()
    package = Path(mlrcbench.__file__).parent
    assert str(package) in paths
    if (package.parents[1] / "pyproject.toml").exists():
        assert str(package.parents[1]) in paths


def test_packages_that_only_their_owner_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root, commands run as another user, who must be able to read the interpreter and its packages."""
    assert readable.closed_to_others() == ""
    site = tmp_path / "site"
    (site / "torch").mkdir(parents=True)
    own = readable.view()
    monkeypatch.setattr(readable, "view", lambda: dataclasses.replace(own, system=(*own.system, str(site))))
    monkeypatch.setattr(readable, "_site_folders", lambda: {str(site)})
    for folder in (site / "torch", site):
        for closed, mode in ((str(folder), 0o750), ("", 0o755)):
            folder.chmod(mode)
            assert readable.closed_to_others() == closed


@pytest.mark.skipif(os.geteuid() != 0, reason="commands of an ordinary user run as the same user")
def test_the_probe_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason says which folder and what to do, and nothing of kernels."""
    monkeypatch.setattr(readable, "closed_to_others", lambda: "/venv/lib/torch")
    probe.probe_tier.cache_clear()
    try:
        reasons = [probe.probe_tier(tier).reason for tier in ("strong", "uid")]
    finally:
        probe.probe_tier.cache_clear()
    for reason in reasons:
        assert "cannot read /venv/lib/torch" in reason
        assert reason.endswith("(chmod -R a+rX /venv/lib/torch)")
