"""Competitions are found by folder and by entry point; no list has to be edited."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.catalog import registry


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that announces a competition, as pip would have installed it."""
    source = mlrcbench.get_competition("_template").folder
    folder = tmp_path / "their_package" / "their_problem"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder.parent / "__init__.py").touch()
    card = folder / "card.toml"
    card.write_text(card.read_text().replace('"_template"', '"their-problem"').replace("hidden = true", ""))
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their_package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{registry.ENTRY_POINT_GROUP}]\ntheirs = their_package.their_problem\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry.competitions.cache_clear()
    yield folder
    registry.competitions.cache_clear()
    for name in [name for name in sys.modules if name.startswith("their_package")]:
        del sys.modules[name]


def test_third_parties_add_theirs(third_party: Path, tmp_path: Path) -> None:
    """Their competitions are listed, and can be played."""
    assert "their-problem" in [card.id for card in mlrcbench.list_competitions()]
    with mlrcbench.make("their-problem", sandbox="process", records=tmp_path / "records") as env:
        env.reset(seed=0)
        assert env.evaluate("dev").valid


@pytest.mark.parametrize("harm", ["no statement", "no package"])
def test_one_that_is_broken_is_left_out(third_party: Path, harm: str) -> None:
    """A warning names it; all others work."""
    if harm == "no statement":
        (third_party / "statement.md").unlink()
    else:
        shutil.rmtree(third_party.parent)
    with pytest.warns(UserWarning, match="'theirs' is left out"):
        ids = [card.id for card in mlrcbench.list_competitions()]
    assert "their-problem" not in ids
    assert "backdoor-trigger" in ids


def test_two_of_the_same_id_are_refused(third_party: Path) -> None:
    """The error names the id."""
    card = third_party / "card.toml"
    card.write_text(card.read_text().replace('"their-problem"', '"_template"'))
    renamed = third_party.rename(third_party.parent / "_template")
    entry = importlib.metadata.entry_points(group=registry.ENTRY_POINT_GROUP)
    assert [point.value for point in entry] == ["their_package.their_problem"]
    points = renamed.parents[1] / "their_package-1.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text().replace("their_problem", "_template"))
    with pytest.raises(mlrcbench.CardError, match="the same id '_template'"):
        mlrcbench.list_competitions()


def test_listings_leave_hidden_ones_out() -> None:
    """A caller can ask for them."""
    assert "_template" not in [card.id for card in mlrcbench.list_competitions()]
    assert "_template" in [card.id for card in mlrcbench.list_competitions(hidden=True)]
