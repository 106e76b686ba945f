"""Full-tier results in the paper's table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlrcbench.cli import main
from mlrcbench.env.settings import Settings
from mlrcbench.runs import Assignment, Plan, Result
from mlrcbench.runs.paper import paper_table, read_paper
from mlrcbench.runs.report import beside_paper, full_results

TEST: dict[str, Any] = {"outcome": "scored", "value": 0.3, "improvement": 0.5, "details": {}}


def result(folder: Path, competition: str, trial: int = 0, **changes: Any) -> Result:
    """An episode that was played."""
    return Result(Assignment("me", competition, 0, trial), "played", "", folder, test={**TEST, **changes})


def test_the_best_episode(tmp_path: Path) -> None:
    """The best one counts, as in the paper; an invalid one is worth the baseline."""
    results = [
        result(tmp_path, "temporal-action-localization", 0, improvement=-0.2),
        result(tmp_path, "temporal-action-localization", 1, improvement=0.4),
        result(tmp_path, "meta-learning", improvement=None, value=None, outcome="invalid"),
    ]
    assert beside_paper(results) == {"me": {"temporal-action-localization": 0.4, "meta-learning": 0.0}}


def test_the_papers_scale(tmp_path: Path) -> None:
    """By hand: the detail of the faulty evaluator between the paper's anchors, not our improvement."""
    rows = beside_paper([result(tmp_path, "product-recommendation", details={"mrr_character_offset": 0.2})])
    expected = (0.2 - 0.08039) / (0.41208 - 0.08039)
    assert rows["me"]["product-recommendation"] == pytest.approx(expected, abs=1e-9)


def test_rows() -> None:
    """A row has a mean, computed as in the paper, only if it has every competition."""
    names = list(read_paper().human_gains)
    lines = paper_table({"some": {names[0]: 0.5}, "all": {name: n / 10 for n, name in enumerate(names)}})
    some = next(line for line in lines.splitlines() if line.startswith("some (this run)"))
    every = next(line for line in lines.splitlines() if line.startswith("all (this run)"))
    assert some.split()[3:] == ["50.0", *"-" * 8]
    assert every.split()[-2] == "30.0"
    assert paper_table() == paper_table({})


@pytest.mark.parametrize("tier", ["mini", "full"])
def test_the_command(tmp_path: Path, tier: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of the full tier is a row of the paper's table, one of the mini tier is not."""
    Plan(agents=("baseline",), competitions=("temporal-action-localization",), settings=Settings(tier)).write(
        tmp_path
    )
    folder = tmp_path / "episodes" / "one"
    folder.mkdir()
    assignment = {
        "agent": "baseline",
        "competition": "temporal-action-localization",
        "instance": 0,
        "trial": 0,
    }
    content = {"assignment": assignment, "outcome": "played", "reason": "", "test": TEST}
    (folder / "result.json").write_text(json.dumps(content))
    assert len(full_results([tmp_path])) == (tier == "full")
    assert main(["report", str(tmp_path), "--paper"]) == 0
    text = capsys.readouterr().out
    assert ("baseline (this run)" in text) == (tier == "full")
    assert "MLAB, gpt-4o" in text
