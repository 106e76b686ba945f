"""The ladder: where a score stands among published methods, for hosts and never for agents."""

from __future__ import annotations

from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.ladder import Rung, read_ladder, standing
from mlrcbench.errors import CardError
from tests.conftest import SANDBOX, copy_of_template
from tools import rungs

LADDER = (Rung("middle (2020)", 0.5, 0.4), Rung("low (2010)", 0.0, 0.0), Rung("high (2024)", 1.0, 1.0))
TEXT = """
[[rungs]]
label = "middle (2020)"
dev = 0.5
test = 0.4
"""


@pytest.mark.parametrize(
    ("improvement", "expected"),
    [
        (-0.1, "below low (2010)"),
        (0.0, "level with low (2010)"),
        (0.45, "above middle (2020), below high (2024)"),
        (1.3, "above high (2024)"),
    ],
)
def test_a_score_stands_between_two_rungs(improvement: float, expected: str) -> None:
    """Rungs may be in any order, and their heights are those of the split."""
    assert standing(improvement, "test", LADDER) == expected


def test_heights_are_those_of_the_split() -> None:
    """One improvement may be above a method on test and below it on dev."""
    assert standing(0.45, "dev", LADDER) == "above low (2010), below middle (2020)"
    assert standing(0.45, "dev", ()) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [("[[rungs]", "rungs.toml"), ("[[rungs]]\ndev = 1.0", "label"), (f"{TEXT}rank = 3", "'rank' is unknown")],
)
def test_a_wrong_file_says_what_to_fix(text: str, message: str, tmp_path: Path) -> None:
    """The error names what is wrong."""
    (tmp_path / "rungs.toml").write_text(text)
    with pytest.raises(CardError, match=message):
        read_ladder(tmp_path / "rungs.toml")


def test_the_host_sees_the_rung_and_the_agent_does_not(tmp_path: Path) -> None:
    """It is in the returned score and in the record, and in nothing that an agent may read."""
    folder = copy_of_template(tmp_path)
    (folder / "rungs.toml").write_text(TEXT)
    with mlrcbench.ResearchEnv(Competition(folder), sandbox=SANDBOX, records=tmp_path / "records") as env:
        env.reset(seed=0)
        assert env.evaluate("dev").rung == "below middle (2020)"
        observation, _, _, _, info = env.step(mlrcbench.Evaluate())
        assert "middle" not in f"{observation}{info}"
        assert env.record is not None
        assert mlrcbench.read_record(env.record).evaluations[-1].score.rung == "below middle (2020)"


def test_the_ladders_are_those_of_the_calibrations() -> None:
    """If not, `python -m tools.rungs` writes them; every listed competition has one of six rungs or more."""
    stale = [str(path) for path, text in rungs.fresh().items() if path.read_text("utf-8") != text]
    assert stale == []
    for entry in mlrcbench.list_competitions():
        competition = mlrcbench.get_competition(entry.id)
        assert len(competition.ladder_of("mini")) >= 6
        if "full" in competition.card.tiers:
            assert competition.ladder_of("full") == ()
