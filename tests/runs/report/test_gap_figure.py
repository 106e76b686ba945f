"""The first picture of a report: its figures, its intervals, and what it shows of hostile names."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from mlrcbench.env.settings import Settings
from mlrcbench.runs import Assignment, Result
from mlrcbench.runs.plan import EPISODES, Plan
from mlrcbench.runs.report import summarise
from mlrcbench.runs.report.gap_figure import OVERALL, draw_gaps, gains


def result(
    agent: str, competition: str, instance: int, trial: int, value: float, *, run: Path = Path("run")
) -> Result:
    """The result of an episode with a valid score."""
    score = {"outcome": "scored", "value": value, "improvement": value}
    place = Assignment(agent, competition, instance, trial)
    return Result(place, "played", "", run / EPISODES / place.name, test=score)


def test_an_instance_is_one_observation() -> None:
    """Trials are averaged within instances; the interval is Student's, as a textbook computes it."""
    values = {0: [0.0, 0.0], 1: [1.0, 1.0], 2: [1.0, 3.0]}
    played = [result("a", "x", i, t, v) for i, trials in values.items() for t, v in enumerate(trials)]
    gain = gains(played)["a"]["x"]
    assert (gain.mean, gain.instances, gain.episodes) == (1.0, 3, 6)
    assert gain.half == pytest.approx(4.303 * 1 / math.sqrt(3))
    more = gains([*played, *(result("a", "x", i, 2, 1.0 * i) for i in values)])["a"]["x"]
    assert more.instances == 3


def test_one_instance_has_no_interval() -> None:
    """Neither the figure nor its text pretends to one, however many trials there are; nor does the whole."""
    gain = gains([result("a", "x", 0, trial, 0.5) for trial in range(9)])["a"]
    assert gain["x"].half is None
    assert gain["x"].text == "50.0 %, 1 instance: no interval"
    assert gain[OVERALL].half is None


def test_competitions_have_equal_weights() -> None:
    """The whole is the mean of means; its interval follows from theirs, by Welch and Satterthwaite."""
    played = [result("a", "x", i, 0, v) for i, v in enumerate([0.0, 1.0, 2.0])]
    played += [result("a", "y", i, 0, v) for i, v in enumerate([4.0, 5.0, 6.0])]
    gain = gains(played)["a"]
    assert gain[OVERALL].mean == 3.0
    assert gain[OVERALL].half == pytest.approx(2.776 * math.sqrt(1 / 3 + 1 / 3) / 2)  # 4 degrees of freedom
    constant = gains([result("a", "x", i, 0, 0.5) for i in range(3)])["a"]
    assert (constant["x"].half, constant[OVERALL].half) == (0.0, 0.0)


def test_the_panels_name_agents_ends_and_published_methods(tmp_path: Path) -> None:
    """A panel for each competition with its ladder, and one for all; what is far away stays inside."""
    Plan(("reference", "baseline"), ("llm-merging", "_template"), 1, 1, Settings(), {}).write(tmp_path)
    played = [
        result(agent, competition, 0, 0, value, run=tmp_path)
        for agent, value in (("reference", 0.5), ("baseline", -1e9))
        for competition in ("llm-merging", "_template")
    ]
    text = draw_gaps(summarise(played))
    assert re.findall(r"<figcaption>(.*?)</figcaption>", text) == [OVERALL, "_template", "llm-merging"]
    for words in ("Task arithmetic", "Iso-C", "0 % baseline", "100 % reference", "50.0 % (n = 1)"):
        assert f">{words}</text>" in text
    assert all(0 <= float(x) <= 480 for x in re.findall(r' c?x[12]?="([^"]+)"', text))
    assert "not played on the same" not in text
    assert "baseline: -100000000000.0 %" in text


def test_hostile_names_and_unknown_competitions_do_no_harm() -> None:
    """What a run of somebody else calls its agents is text; a competition that is unknown has no ladder."""
    hostile = "</svg><script>alert(1)</script>\"'&"
    played = [result(hostile, "x", 0, 0, 0.1), result("b", "y", 0, 0, 0.1)]
    text = draw_gaps(summarise(played))
    assert "<script" not in text
    assert text.count("<svg") == text.count("</svg>") == 3
    assert "100 % human or reference" in text
    assert "The agents were not played on the same competitions" in text


def test_the_picture_has_a_dozen_agents_and_the_table_all() -> None:
    """More rows would not fit on a screen; the page says so."""
    played = [result(f"agent-{number:02}", "x", 0, 0, number / 20) for number in range(20)]
    text = draw_gaps(summarise(played))
    assert "the best 12 of 20 agents" in text
    assert text.count("<circle") == 12
    assert all(f"<td>agent-{number:02}</td>" in text for number in range(20))
