"""Reports: their figures are the records', and hostile text stays text."""

from __future__ import annotations

import base64
import csv
import dataclasses
import gzip
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import mlrcbench
from mlrcbench.cli import main
from mlrcbench.errors import RunError
from mlrcbench.runs import Assignment, Result
from mlrcbench.runs.judge import read_judgement
from mlrcbench.runs.report import summarise, to_csv, to_json, to_markdown
from mlrcbench.runs.report.episode_details import describe_episode
from mlrcbench.runs.report.plots import draw_all, pareto_front
from tests.runs.report.conftest import HOSTILE


class Elements(HTMLParser):
    """The elements of the page, as an HTML parser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect names."""
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        """Collect the contents of scripts."""
        if self.tags and self.tags[-1] == "script" and data.strip():
            self.scripts.append(data)


def embedded(page: Path) -> dict[str, Any]:
    """The page's data."""
    data: dict[str, Any] = json.loads(Elements(page.read_text()).scripts[0])
    return data


def test_figures_are_those_of_the_records(results: list[Result], page: Path) -> None:
    """The figures are recomputed from the records alone, without the report's code."""
    anchors = mlrcbench.get_competition("_template").card.tier("mini").anchors["test"]
    gains: dict[str, list[float]] = {}
    for one in results:
        record = mlrcbench.read_record(one.folder / str(one.record))
        (value,) = [row.score.value or 0.0 for row in record.evaluations if row.split == "test"]
        gain = (value - anchors.baseline.value) / (anchors.target.value - anchors.baseline.value)
        gains.setdefault(one.assignment.agent, []).append(gain)
    data = embedded(page)
    assert len(data["episodes"]) == 6
    for row in data["rows"]:
        assert row["mean"] == pytest.approx(sum(gains[row["agent"]]) / 2)
        assert data["best"][row["agent"]]["_template"] == pytest.approx(max(gains[row["agent"]]))
    report = json.loads(to_json(summarise(results)))
    assert [row["mean"] for row in report["leaderboard"]] == [row["mean"] for row in data["rows"]]
    lines = list(csv.DictReader(io.StringIO(to_csv(summarise(results)))))
    printed = [float(line["improvement"]) for line in lines if line["agent"] == "reference"]
    assert printed == pytest.approx(gains["reference"])


def test_hostile_text_is_never_markup(page: Path) -> None:
    """What an agent wrote adds no element, and is in the data unchanged."""
    elements = Elements(page.read_text())
    assert elements.tags.count("script") == 2
    assert "img" not in elements.tags
    assert "b" not in elements.tags
    episodes = [json.loads(gzip.decompress(base64.b64decode(text))) for text in embedded(page)["packed"]]
    bodies = [step["body"] for episode in episodes for step in episode["steps"]]
    assert any(HOSTILE in body for body in bodies)
    assert "default-src 'none'" in page.read_text()


def test_an_episode_is_described_in_detail(results: list[Result]) -> None:
    """The description has steps, changes, scores, isolation and how to replay the episode."""
    (one, _) = [one for one in results if one.assignment.agent == "reference"]
    details = describe_episode(one)
    assert details["steps"][0]["action"].startswith('{"action": "write_file"')
    assert "+++ method.py" in details["changes"]
    assert [score["split"] for score in details["evaluations"]] == ["dev", "test"]
    assert "confined" in details["integrity"]
    command = details["replay"].split()
    assert main(command[1:]) == 0


def test_how_agents_worked_is_shown_if_it_is_asked_for(
    results: list[Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table, Markdown, JSON and page have the means of what each episode's details say."""
    run = results[0].folder.parents[1]
    files = {name: tmp_path / name for name in ("markdown", "json", "html")}
    assert main(["report", str(run), "--process", *(f"--{name}={path}" for name, path in files.items())]) == 0
    assert "share of the former" in capsys.readouterr().out
    process = json.loads(files["json"].read_text())["process"]
    details = [describe_episode(one)["process"] for one in results if one.assignment.agent == "reference"]
    for name, mean in process["reference"].items():
        values = [one[name] for one in details if one[name] is not None]
        assert mean == (pytest.approx(sum(values) / len(values)) if values else None)
    assert process["reference"]["algorithm_changes"] == 1
    assert process["baseline"]["algorithm_changes"] == 0
    assert "## How the agents worked" in files["markdown"].read_text()
    assert [row[0] for row in embedded(files["html"])["process"]] == ["agent", *process]
    assert summarise(results).process == {}


def test_long_texts_are_cut_and_say_so(results: list[Result]) -> None:
    """An episode's part of the page is bounded."""
    record = results[0].folder / str(results[0].record) / "record.jsonl"
    lines = record.read_text().splitlines()
    step = json.loads(next(line for line in lines if '"kind": "step"' in line))
    step["body"] = "x" * 1_000_000
    copy = results[0].folder / "long"
    copy.mkdir()
    (copy / "record.jsonl").write_text("\n".join([lines[0], *[json.dumps(step)] * 300, ""]))
    details = describe_episode(dataclasses.replace(results[0], record="long"))
    assert (len(details["steps"]), details["left_out"]) == (200, 100)
    assert "characters left out" in details["steps"][0]["body"]
    assert len(json.dumps(details)) < 2_000_000


def test_what_is_missing_is_reported(tmp_path: Path, results: list[Result]) -> None:
    """An episode without a record is named, and counts as the baseline; no episodes are an error."""
    bare = Result(Assignment("a", "_template", 0, 0), "infrastructure failed", "no sandbox", tmp_path)
    assert describe_episode(bare)["trouble"] == "the episode has no record"
    assert "cannot be read" in describe_episode(dataclasses.replace(bare, record="gone"))["trouble"]
    report = summarise([*results, bare])
    assert report.best["a"] == {"_template": 0.0}
    assert report.episodes[-1]["improvement"] == 0.0
    assert "infrastructure failed" in to_csv(report)
    with pytest.raises(RunError, match="no finished episode"):
        summarise([])


def test_curves_are_relative_to_the_baseline(tmp_path: Path) -> None:
    """Twice the seconds and half as many lines more; shorter trials keep their last evaluation."""

    def result(agent: str, trial: int, *scores: tuple[float, float, int]) -> Result:
        dev = [
            {"improvement": gain, "wall_seconds": seconds, "logical_lines": lines, "outcome": "scored"}
            for gain, seconds, lines in scores
        ]
        return Result(Assignment(agent, "c", 0, trial), "played", "", tmp_path, dev[-1], dev, seconds=9.0)

    played = [result("baseline", 0, (0.0, 2.0, 10)), result("a", 0, (0.1, 4.0, 15), (0.5, 6.0, 20))]
    report = summarise([*played, result("a", 1, (0.3, 2.0, 10))])
    curves = report.curves["a"]
    assert curves["improvement"] == pytest.approx([0.2, 0.4])
    assert curves["runtime"] == pytest.approx([0.5, 1.0])
    assert curves["lines"] == pytest.approx([0.25, 0.5])
    assert report.pass_at["a"] == [1.0, 1.0]
    assert len(draw_all(report)) == 5


def test_costs_of_language_models_are_means_of_what_is_known(tmp_path: Path) -> None:
    """Tokens and money per episode; an agent without a price has no money, one without a model neither."""

    def result(agent: str, trial: int, usage: dict[str, float | None] | None) -> Result:
        test = {"improvement": 0.5, "outcome": "scored", "value": 1.0}
        return Result(Assignment(agent, "c", 0, trial), "played", "", tmp_path, test, [test], usage=usage)

    report = summarise(
        [
            result("reference", 0, None),
            result("react:a", 0, {"prompt": 90, "completion": 10, "money": 0.5}),
            result("react:a", 1, {"prompt": 190, "completion": 10, "money": 1.5}),
            result("react:b", 0, {"prompt": 9, "completion": 1, "money": 0.1}),
            result("react:free", 0, {"prompt": 9, "completion": 1, "money": None}),
        ]
    )
    assert {agent: (cost.get("tokens"), cost.get("money")) for agent, cost in report.costs.items()} == {
        "reference": (None, None),
        "react:a": (150.0, 1.0),
        "react:b": (10.0, 0.1),
        "react:free": (10.0, None),
    }
    figures = draw_all(report)
    assert "react:b" in figures["Money against improvement"]
    assert "react:free" not in figures["Money against improvement"]
    assert "react:a,c,0,1" in to_csv(report)
    assert ",200,1.5" in to_csv(report)


def test_failures_are_drawn_by_kind(results: list[Result]) -> None:
    """Each kind is named as in the episodes; without failures nothing is drawn."""
    assert "Outcomes by kind" not in draw_all(summarise(results))
    late = dataclasses.replace(results[0], test={"improvement": None, "outcome": "timeout", "value": None})
    lost = dataclasses.replace(results[1], outcome="agent failed", test=None)
    figure = draw_all(summarise([late, lost, *results[2:]]))["Outcomes by kind"]
    assert all(f">{outcome}<" in figure for outcome in ("scored", "timeout", "agent failed"))


def test_judge_correlations_are_those_of_the_study(
    results: list[Result], judgement: dict[str, Any], tmp_path: Path
) -> None:
    """Every format has those of its summary, and shows a judge's name as text."""
    report = summarise(results, "judged", [judgement])
    figures = draw_all(report)
    assert [title for title in figures if "Judge" in title] == [
        "Judge correlations, with code, within competitions",
        "Judge correlations, without code, within competitions",
    ]
    assert all("<b>" not in svg for svg in figures.values())
    assert json.loads(to_json(report))["judgements"] == [json.loads(json.dumps(judgement))]
    lines = [line for line in to_markdown(report).splitlines() if "| innovativeness |" in line]
    rows = [row for row in judgement["correlations"] if row["dimension"] == "innovativeness"]
    assert len(lines) == len(rows) == 3 * 2 * 2
    for line, row in zip(lines, rows, strict=True):
        assert f"{row['value']:+.2f} ({row['lower']:+.2f} to" in line
        assert "<b>" not in line
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "summary.json").write_text('{"version": 1}')
    with pytest.raises(RunError, match="judge again"):
        read_judgement(tmp_path)
    assert read_judgement(tmp_path / "judge" / "none") is None


def test_the_pareto_front_by_hand() -> None:
    """Points that cost more and gain no more are not on it; equal points are on it once."""
    assert pareto_front([(1, 0.1), (2, 0.3), (3, 0.2), (2, 0.2), (4, 0.3)]) == [(1, 0.1), (2, 0.3)]


def test_tables_stay_tables(results: list[Result]) -> None:
    """A name with a bar or a formula is harmless in Markdown and in a spreadsheet."""
    odd = [dataclasses.replace(one, assignment=Assignment("=a|b", "_template", 0, 0)) for one in results]
    text = to_markdown(summarise(odd))
    rows = [line for line in text.splitlines() if line.startswith("| =a")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == row.count("|") - 1 for row in rows)
    assert rows
    assert "'=a|b" in to_csv(summarise(odd))


def test_the_command_writes_every_format(
    results: list[Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """HTML, Markdown, CSV and JSON, and a table on the terminal."""
    run = results[0].folder.parents[1]
    names = {kind: tmp_path / f"report.{kind}" for kind in ("html", "markdown", "csv", "json")}
    options = [option for kind, path in names.items() for option in (f"--{kind}", str(path))]
    assert main(["report", str(run), *options, "--quiet"]) == 0
    assert "reference" in capsys.readouterr().out
    assert all(path.stat().st_size > 300 for path in names.values())
    assert main(["report"]) == 2
    assert "--paper" in capsys.readouterr().err
