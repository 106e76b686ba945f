"""What checks report about competitions, and how verdicts are shown."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.registry import get_competition
from mlrcbench.testing import (
    Attack,
    Verdict,
    check_competition,
    format_findings,
    format_verdicts,
    markdown_table,
)
from mlrcbench.testing.extreme_answers import oracle_faults
from tests.conftest import copy_of_template


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the template's folder, to be broken."""
    return copy_of_template(tmp_path)


def wrong(competition: Competition) -> str:
    """The details of what is wrong."""
    findings = check_competition(competition, sandbox="process")
    return "\n".join(f"{one.name}: {one.detail}" for one in findings if not one.passed)


@pytest.mark.parametrize("name", ["_template", "_played"])
def test_the_templates_are_complete(name: str) -> None:
    """Every check passes."""
    findings = check_competition(get_competition(name), sandbox="process")
    assert all(finding.passed for finding in findings), format_findings(findings)
    assert format_findings(findings).endswith("nothing wrong")


def test_an_oracle_that_fails_on_an_answer_is_reported(tmp_path: Path) -> None:
    """The exchange, the answer and the error are named."""
    path = copy_of_template(tmp_path, "_played")
    text = (path / "oracle.py").read_text()
    refusal = 'raise SubmissionError(f"round {turn}: a guess lies outside of 0 to {_RANGE - 1}")'
    assert refusal in text
    (path / "oracle.py").write_text(text.replace(refusal, "1 // int(guesses.clip(max=0).min())"))
    faults, count = oracle_faults(Competition(path), "process")
    assert [fault.partition(": ")[0] for fault in faults] == [
        f"exchange {exchange}, guesses of 9223372036854775807" for exchange in (1, 8)
    ]
    assert all("ZeroDivisionError" in fault for fault in faults)
    assert count > 10


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "answers in public": (
        lambda path: _replace(
            path / "data.py",
            'np.save(private / split / "answers" / "y.npy", y)',
            'np.save(private / split / "answers" / "y.npy", y); np.save(public / f"{split}.npy", y)',
        ),
        "holds the answers",
    ),
    "a build that is not seeded": (
        lambda path: _replace(path / "data.py", "default_rng([seed, number])", "default_rng()"),
        "two builds with the same seed differ",
    ),
    "a build that ignores its seed": (
        lambda path: _replace(path / "data.py", "[seed, ", "[0, "),
        "two seeds give the same",
    ),
    "a reference that is no better": (
        lambda path: shutil.copyfile(path / "starter" / "method.py", path / "reference" / "method.py"),
        "the reference gets",
    ),
    "a starter that fails": (
        lambda path: (path / "starter" / "method.py").write_text("raise SystemExit(3)\n"),
        "exit status 3",
    ),
    "a statement without the artefact": (
        lambda path: _replace(path / "statement.md", "predictions.npy", "something"),
        "does not mention predictions.npy",
    ),
    "anchors that are far off": (
        lambda path: _replace(path / "card.toml", "value = 1.159", "value = 9.0"),
        "far from the card's",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_fault_is_reported(copy: Path, name: str) -> None:
    """The text says what to do."""
    break_it, expected = BROKEN[name]
    break_it(copy)
    assert expected in wrong(Competition(copy))


def test_how_verdicts_are_shown() -> None:
    """A gain stands out, with what it means; a residual is shown, never dropped."""
    attack = Attack("path", "reading", "opens the answers")
    held = Verdict(attack, False, "PermissionError", "strong", 0.1)
    known = Verdict(attack, True, "got it", "landlock", 0.1, "known")
    lost = Verdict(attack, True, "got it", "none", 0.1)
    missing = Verdict(attack, False, "not run: dangerous", "none", 0.0, ran=False)
    assert "none of them gained anything" in format_verdicts([held])
    assert "beyond the 1 known of it" in format_verdicts([held, known])
    assert "1 of them gained something" in format_verdicts([held, lost, missing])
    lines = markdown_table([held, known, lost]).splitlines()
    assert lines[0] == "| attack | it | strong | landlock | process |"
    assert lines[-1] == "| path | opens the answers | held | residual | GAINED |"
    assert missing.to_json()["verdict"] == "not run"
