"""Boards: ranks are what the intervals say, and hostile bundles change nothing but their own cells."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mlrcbench.aggregates import difference_of_means
from mlrcbench.cli import main
from mlrcbench.errors import RunError
from mlrcbench.runs.board import BoardEntry, standings, write_board
from mlrcbench.runs.bundles import open_bundle, write_bundle
from tests.runs.bundles.conftest import change_rows, forged
from tests.runs.report.conftest import HOSTILE
from tests.runs.report.test_report import Elements


def _entry(name: str, public: float, again: list[float] | None, code: tuple[str, ...] = ()) -> BoardEntry:
    label = "c v1 mini"
    return BoardEntry(
        id=name, file=f"{name}.mlrc", agent=name, card=None, public={label: [public, public]},
        retested=None if again is None else {label: again}, verdicts={}, failed=None,
        isolation=(), costs={"seconds": 1.0}, process={}, invalid=0, code=code,
    )  # fmt: skip


def test_ranks_count_only_what_is_beyond_chance() -> None:
    """Two entries whose intervals of difference hold 0 share a rank; public scores decide nothing."""
    good = _entry("good", 0.5, [0.8, 0.9, 0.85, 0.8, 0.9])
    middle = _entry("middle", 2.0, [0.1, 0.3, 0.2, 0.1, 0.3])
    wide = _entry("wide", 0.0, [-0.6, 0.9, 0.1, -0.2, 0.3])
    unknown = _entry("unknown", 9.0, None)
    rows = standings([unknown, wide, middle, good])
    assert [(row.entry.id, row.rank) for row in rows] == [
        ("good", 1), ("middle", 2), ("wide", 2), ("unknown", None),
    ]  # fmt: skip
    assert rows[1].better == ("good",)
    only_public = standings([unknown])
    assert (only_public[0].rank, only_public[0].again) == (1, None)


def test_single_scores_and_other_competitions_rank_nobody() -> None:
    """One score has no chance to compare with, and another label is another competition."""
    one, other = _entry("a", 0.0, [0.9]), _entry("b", 0.0, [0.1, 0.1])
    assert [row.rank for row in standings([one, other])] == [1, 1]


def test_entries_with_the_same_code_are_seen(played: Path, honest: Path, tmp_path: Path) -> None:
    """Copies name each other, also under another card; an unchanged starter does not count."""
    entries = [_entry("a", 0.0, None, ("x", "y")), _entry("b", 0.0, None, ("y",)), _entry("c", 0.0, None)]
    assert [row.copies for row in standings(entries)] == [("b",), ("a",), ()]
    shutil.copy(honest, tmp_path / "a.mlrc")
    write_bundle(played, tmp_path / "b.mlrc", agent="reference")
    write_bundle(played, tmp_path / "c.mlrc", agent="baseline")
    rows, refused = write_board(tmp_path, tmp_path / "site")
    assert refused == {}
    copies = {row.entry.file: len(row.copies) for row in rows}
    assert copies == {"a.mlrc": 1, "b.mlrc": 1, "c.mlrc": 0}
    assert (tmp_path / "site" / "index.html").read_text().count("same code as") == 2


def test_a_difference_of_means_has_its_interval() -> None:
    """Worked out by hand: constant trials have no spread, and competitions count equally."""
    interval = difference_of_means({"c": [1.0, 1.0], "d": [0.0]}, {"c": [0.5, 0.5, 0.5], "d": [0.5]})
    assert (interval.value, interval.lower, interval.upper) == pytest.approx((0.0, 0.0, 0.0))
    spread = difference_of_means({"c": [0.0, 1.0] * 50}, {"c": [0.0] * 2})
    assert spread.value == 0.5
    assert (spread.lower, spread.upper) == pytest.approx((0.4, 0.6), abs=0.03)  # 1.96 * 0.5 / sqrt(100)


def test_hostile_bundles_are_text(site: Path) -> None:
    """Neither name, card nor record adds an element to the index or to the page of the entry."""
    index = Elements((site / "index.html").read_text())
    assert index.tags.count("script") == 1
    assert not {"img", "b"} & set(index.tags)
    for page in (site / "entries").iterdir():
        assert Elements(page.read_text()).tags.count("script") == 2
        assert "img" not in Elements(page.read_text()).tags
        assert "default-src 'none'" in page.read_text()
    figures = json.loads((site / "board.json").read_text())
    assert {entry["entry"]["card"]["name"] for entry in figures["entries"]} == {"Reference", HOSTILE}
    assert [entry["rank"] for entry in figures["entries"]] == [1, None]
    assert (site / "index.html").read_text().count("<circle") == 1  # an entry without a rank is not compared
    assert "retest" not in figures["entries"][1]["entry"]["file"]
    assert figures["entries"][0]["entry"]["failed"] == []
    assert any("isolation" in sentence for sentence in figures["entries"][1]["entry"]["failed"])


def test_what_cannot_be_shown_is_named(
    honest: Path, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged bundle, a second copy, and a retest of another bundle are left out, for a reason each."""
    for name in ("a", "b"):
        shutil.copy(honest, tmp_path / f"{name}.mlrc")
    (tmp_path / "damaged.mlrc").write_bytes(honest.read_bytes()[:2000])
    shutil.copy(site.parent / "forged.mlrc", tmp_path / "other.mlrc")
    shutil.copy(site.parent / "honest.retest.json", tmp_path / "other.retest.json")
    assert main(["board", str(tmp_path), "--out", str(tmp_path / "site"), "--quiet"]) == 1
    err = capsys.readouterr().err
    assert "b.mlrc is not on the board: it has the same content as a.mlrc" in err
    assert "damaged.mlrc is not on the board" in err
    assert "it is not about this bundle" in err
    with pytest.raises(RunError, match="no bundle that can be shown"):
        write_board(tmp_path / "site", tmp_path / "nothing")


def test_absurd_numbers_harm_no_board(honest: Path, tmp_path: Path) -> None:
    """Numbers whose sums no JSON can hold are bounded, or make a result unreadable."""

    def result(files: Path) -> None:
        for path in files.glob("episodes/*/result.json"):
            path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": 1e308}))

    for name, change in (("steps", change_rows("step", seconds=1e308)), ("result", result)):
        (tmp_path / name).mkdir()
        forged(honest, tmp_path / name, change).rename(tmp_path / f"{name}.mlrc")
    rows, refused = write_board(tmp_path, tmp_path / "site")
    assert refused == {}
    figures = json.loads((tmp_path / "site" / "board.json").read_text())
    assert len(rows) == len(figures["entries"]) == 2
    assert max(entry["entry"]["invalid"] for entry in figures["entries"]) == 1


def test_pages_name_no_path_of_this_machine(site: Path) -> None:
    """A page holds nothing of the folder in which the bundle was opened."""
    with open_bundle(site.parent / "honest.mlrc") as bundle:
        temporary = str(bundle.root.parent.parent.parent)
    for page in (site / "index.html", site / "board.json", *(site / "entries").iterdir()):
        assert temporary + "/mlrcbench" not in page.read_text()
