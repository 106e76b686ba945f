"""What people see of objects: one line in a terminal, a table in a notebook, real signatures in `help`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import mlrcbench
from mlrcbench.runs import Assignment
from mlrcbench.runs.leaderboard import leaderboard_table

HOSTILE = "</td><script>alert(1)</script>\x1b[2J\n"


def test_one_informative_line(tmp_path: Path) -> None:
    """Environments, competitions, scores and records say what they are and where they stand."""
    competition = mlrcbench.get_competition("_template")
    assert repr(competition) == "<Competition _template>"
    assert repr(mlrcbench.get_competition("llm-merging")) == "<Competition llm-merging>"
    with mlrcbench.make(competition, records=tmp_path) as env:
        assert repr(env) == "<ResearchEnv _template, mini: no episode>"
        env.reset(seed=0)
        env.step(mlrcbench.Run("true"))
        assert repr(env) == "<ResearchEnv _template, mini: instance 0, step 1 of 20>"
        score = env.evaluate("dev")
        env.step(mlrcbench.Submit())
        record = env.record
    assert score.value is not None
    assert re.fullmatch(rf"<Score on dev: {score.value:.6g}, [+-]\d+\.\d ± \d+\.\d %>", repr(score))
    assert record is not None
    expected = "<Record of _template, instance 0: 2 steps, 2 evaluations>"
    assert repr(mlrcbench.read_record(record)) == expected


def test_a_score_that_is_missing_says_why_on_one_line() -> None:
    """Whatever agent code wrote stays on one line of bounded length, and is text in a notebook."""
    score = mlrcbench.Score.invalid(HOSTILE * 100)
    assert "\n" not in repr(score)
    assert "\x1b" not in repr(score)
    assert len(repr(score)) < 400
    assert "<script>" not in score._repr_html_()
    assert "&lt;script&gt;" in score._repr_html_()


def test_a_leaderboard_prints_and_shows_as_a_table(tmp_path: Path) -> None:
    """It is the list of rows that it was, and the table that the program prints."""
    test = mlrcbench.Score(1.0, improvement=0.5).to_json()
    results = [
        mlrcbench.Result(Assignment(agent, "_template", instance, 0), "played", "", tmp_path, test)
        for agent in ("one", HOSTILE)
        for instance in range(3)
    ]
    board = mlrcbench.leaderboard(results)
    assert [row.mean for row in board] == [0.5, 0.5]
    assert str(board) == leaderboard_table(results)
    assert "<script>" not in board._repr_html_()
    assert board._repr_html_().count("<tr>") == 3
    assert repr(results[0]) == "<Result of one, _template, instance 0, trial 0: played, +50.0 %>"


def test_a_competition_shows_its_ladder() -> None:
    """A notebook shows title, summary and published methods from the top."""
    shown = mlrcbench.get_competition("llm-merging")._repr_html_()
    assert "TIES-Merging (Yadav et al. 2023)" in shown
    assert shown.index("WUDI-Merging") < shown.index("TIES-Merging")


def test_make_names_its_options() -> None:
    """Completion and `help` show every option of an environment."""
    names = set(inspect.signature(mlrcbench.make).parameters)
    assert {"competition", "instances", "records", "tier", "budget", "sandbox", "secret", "reward"} <= names
    assert "options" not in names
