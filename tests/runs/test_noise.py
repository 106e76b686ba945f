"""Noise: what chance gives agents that do nothing, in leaderboards and reports, simulated and real."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import mlrcbench
from mlrcbench.cli import main
from mlrcbench.runs import Assignment, Result, leaderboard, read_results, run
from mlrcbench.runs.report import summarise
from mlrcbench.runs.report.gap_figure import draw_gaps, gains
from mlrcbench.runs.report.tables import to_markdown
from mlrcbench.runs.results import read_result, write_result
from mlrcbench.score import Score

RATE = 0.05  # of false successes, as docs/metrics.md states it


def result(agent: str, instance: int, improvement: float, error: float | None) -> Result:
    """The result of an episode with a valid score."""
    score = Score(value=improvement, improvement=improvement, error=error, improvement_error=error)
    return Result(Assignment(agent, "x", instance, 0), "played", "", Path("run"), test=score.to_json())


def simulated(agent: str, truth: float, error: float, *, with_errors: bool = True) -> list[Result]:
    """The results of an agent whose improvement is always the same, measured with noise."""
    draws = truth + error * np.random.default_rng(len(agent)).standard_normal(400)
    return [
        result(agent, number, float(draw), error if with_errors else None)
        for number, draw in enumerate(draws)
    ]


@pytest.mark.parametrize("error", [0.06, 0.21, 0.44])
def test_agents_that_do_nothing_rarely_succeed(error: float) -> None:
    """With the noise that the competitions have; without its error, the same results look like successes."""
    results = [*simulated("baseline", 0.0, error), *simulated("random", 0.0, error)]
    report = summarise([*results, *simulated("strong", 1.0, 0.1)])
    rates = {row.agent: row.success for row in report.rows}
    assert rates["baseline"] <= RATE
    assert rates["random"] <= RATE
    assert rates["strong"] == 1.0
    assert report.pass_at["baseline"][0] == pytest.approx(rates["baseline"])
    (row,) = leaderboard(simulated("baseline", 0.0, error, with_errors=False))
    assert row.success > 3 * RATE


def test_the_baseline_does_not_succeed_on_the_template(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Really played on several instances: its scores differ by no more than their errors say."""
    played = run(["baseline", "random"], ["_template"], directory=tmp_path, instances=6, secret="public")
    rows = {row.agent: row for row in leaderboard(read_results(tmp_path))}
    assert rows["baseline"].success <= RATE
    assert rows["random"].success <= RATE
    baseline = [one for one in played if one.assignment.agent == "baseline"]
    errors = [one.improvement_error or 0.0 for one in baseline]
    assert all(abs(one.improvement) < 4 * error for one, error in zip(baseline, errors, strict=True))
    assert main(["score", str(next(baseline[0].folder.glob("records/*")))]) == 0
    score = baseline[0].test or {}
    assert (
        f"{100 * score['improvement']:+.1f} ± {100 * score['improvement_error']:.1f} %"
        in capsys.readouterr().out
    )


def test_a_report_shows_errors() -> None:
    """As a line around a single instance's point, in each episode's row, and in words."""
    report = summarise([result("a", 0, 0.5, 0.1), result("a", 0, 0.7, 0.2), result("b", 0, 0.5, None)])
    text = draw_gaps(report)
    assert text.count('class="noise"') == 1
    assert "60.0 % (± 29.4 by its noise), 1 instance: no interval" in text
    assert [one["improvement_error"] for one in report.episodes] == [0.1, 0.2, None]
    assert [one["success"] for one in report.episodes] == [True, True, True]
    assert "1.645 standard errors" in to_markdown(report)
    several = gains([result("a", 0, 0.5, 0.1), result("a", 1, 0.5, 0.1)])["a"]["x"]
    assert (several.half, several.noise) == (0.0, None)


def test_an_agent_reads_the_error_of_its_evaluation(tmp_path: Path) -> None:
    """In the sentence about the score, in `info`, and in the record."""
    with mlrcbench.make("_template", secret="public", records=tmp_path) as env:
        env.reset(options={"instance": 0})
        observation, _, _, _, info = env.step(mlrcbench.Evaluate())
        score = info["score"]
        assert 0 < score["error"] < 0.2
        assert score["improvement_error"] == pytest.approx(score["error"] / 1.059)
        figures = f"{100 * score['improvement']:+.1f} ± {100 * score['improvement_error']:.1f} % of the way"
        assert figures in observation["text"]
        assert f"{score['value']:.6g} ± {score['error']:.2g} (1, minimize)" in observation["text"]
        assert "± is one standard error" in observation["text"]
        assert env.record is not None
        lines = (env.record / "record.jsonl").read_text().splitlines()
    (evaluation,) = [row for row in map(json.loads, lines) if row["kind"] == "evaluation"]
    assert evaluation["score"]["error"] == score["error"]


def test_a_foreign_result_cannot_claim_an_error_that_breaks_a_figure(tmp_path: Path) -> None:
    """It is left out like one with too large an improvement; without the claim it is read."""
    one = dataclasses.replace(result("a", 0, 0.5, 0.1), folder=tmp_path)
    write_result(one)
    assert read_result(tmp_path) == one
    write_result(dataclasses.replace(one, test={**(one.test or {}), "improvement_error": 1e200}))
    assert read_result(tmp_path) is None
