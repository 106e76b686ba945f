"""The claims of a scale: figures by hand, files that are up to date, and what `check` says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.cli import main
from mlrcbench.errors import CardError
from mlrcbench.score import SPLITS
from mlrcbench.testing.calibration import Measurement, Method, claims, claims_text, format_claims, read_claims
from tools import claims as script

CARD = mlrcbench.get_competition("_template").card
METHODS = [
    Method("baseline", "baseline", "baseline"),
    Method("reference", "reference", "reference"),
    Method("longer", "longer", "trivial", tries="compute"),
    Method("plain", "plain", "trivial"),
    Method("copy", "copy", "cheat", tries="generator", beside="plain"),
    Method("trick", "trick", "cheat", tries="metric"),
    Method("lucky", "lucky", "cheat", tries="reseeds"),
    Method("oracle", "oracle", "bound"),
]


def measured(gains: dict[str, list[float]], day: str = "") -> list[Measurement]:
    """Measurements by improvement on each instance, the same on both splits."""
    lines = []
    for method, values in gains.items():
        for instance, gain in enumerate(values):
            for split in SPLITS:
                anchors = CARD.tier("mini").anchors[split]
                value = anchors.baseline.value + gain * (anchors.target.value - anchors.baseline.value)
                lines.append(Measurement(method, instance, split, 0, value, cpu_seconds=3.0, day=day))
    return lines


GAINS = {
    "baseline": [0.0, 0.1, 0.2],
    "reference": [1.0, 1.0, 1.3],
    "longer": [1.1, 1.3],
    "plain": [0.4],
    "copy": [0.8],
    "trick": [1.02, 1.04],
    "lucky": [1.0, 1.2],
    "oracle": [1.6],
}


def test_each_claim_by_hand() -> None:
    """Figures are means and differences on shared instances; the bound decides between holds and MISSED."""
    rows = claims(measured(GAINS), METHODS, CARD)
    figures = [None if one.measured is None else round(one.measured, 3) for one in rows]
    # The paired gains are 1, .9 and 1.1: their deviation is .1, and (2.8016 x .1 / .05) squared is 31.4.
    assert figures == [0.1, 0.173, 31.396, 1.2, 0.8, 0.4, 0.03, 0.1, 1.6, None, None, 3.0, 3.0]
    missed = [one.name for one in rows if one.word == "MISSED"]
    assert [name.split(" ")[0] for name in missed] == ["standard", "instances", "the", "the", "the"]
    assert rows[3].basis == "2 instances"
    assert [one.word for one in rows if one.measured is None] == ["not measured"] * 2


def test_days_are_those_of_the_lines() -> None:
    """The table says when a figure was measured, as far as the lines say so."""
    lines = measured(GAINS)
    lines[0] = dataclasses.replace(lines[0], day="2026-11-02")
    assert claims(lines, METHODS, CARD)[0].days == "partly 2026-11-02"
    lines[1] = dataclasses.replace(lines[1], day="2026-11-30")
    assert claims(lines, METHODS, CARD)[0].days == "partly 2026-11-02 to 2026-11-30"
    lines = measured(GAINS, "2026-11-30")
    assert "| 2026-11-30 |" in format_claims(claims(lines, METHODS, CARD))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """A file that is missing has no claims, and a wrong one is an error that names it."""
    path = tmp_path / "claims.toml"
    assert read_claims(path) == []
    rows = claims(measured(GAINS, "2026-11-30"), METHODS, CARD)
    path.write_text(claims_text(rows))
    again = read_claims(path)
    assert [one.word for one in again] == [one.word for one in rows]
    assert [dataclasses.replace(one, measured=None) for one in again] == [
        dataclasses.replace(one, measured=None) for one in rows
    ]
    path.write_text(path.read_text().replace("at most", "about"))
    with pytest.raises(CardError, match=r"claims\.toml"):
        read_claims(path)


def test_claims_in_the_package_are_those_of_the_calibrations() -> None:
    """If not, `python -m tools.claims` writes them, in the folders and on the pages."""
    stale = [str(path) for path, text in script.fresh().items() if path.read_text("utf-8") != text]
    assert stale == []


def test_check_says_what_was_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its findings, `check` prints the claims; the template has never been calibrated."""
    monkeypatch.setattr("mlrcbench.cli.author_commands.check_competition", lambda *_, **__: [])
    assert main(["check", "machine-unlearning", "--quiet"]) == 0
    row = "| a trick of the metric, less the method without it | 0.01 | at most 0.05 | holds | 8 methods"
    assert row in capsys.readouterr().out
    assert main(["check", "_template", "--quiet"]) == 0
    assert "Its scale was not measured yet" in capsys.readouterr().out
