"""A real run to report, played once: two trials of two agents and of one that writes hostile text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from mlrcbench.runs import Result, read_results, run
from mlrcbench.runs.judge import Rating, summarise_ratings
from mlrcbench.runs.judge.questions import DIMENSIONS
from mlrcbench.runs.judge.study import VARIANTS

HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">&amp;"
)
_AGENT = f"""
import json, sys
actions = [
    {{"action": "write_file", "path": "notes.md", "text": {HOSTILE!r}}},
    {{"action": "run", "command": "cat notes.md"}},
    {{"action": "evaluate"}},
    {HOSTILE!r},
    {{"action": "submit"}},
]
for action, _ in zip(actions, sys.stdin):
    print(json.dumps(action) if isinstance(action, dict) else action, flush=True)
"""


@pytest.fixture(scope="package")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """Six episodes on the template."""
    folder = tmp_path_factory.mktemp("report")
    program = folder / "hostile.py"
    program.write_text(_AGENT)
    agents = ["baseline", "reference", f"external:{sys.executable} {program}"]
    run(agents, ["_template"], directory=folder / "run", trials=2, jobs=2)
    return read_results(folder / "run")


@pytest.fixture(scope="package")
def judgement(results: list[Result]) -> dict[str, Any]:
    """A judge study of these episodes, by two judges whose ratings differ."""
    ratings = [
        Rating(
            one.assignment.name, one.assignment.agent, "_template", one.improvement or 0.0,
            one.assignment.name, variant, judge, 0, list(DIMENSIONS),
            dict.fromkeys(DIMENSIONS, 1 + (number + shift) % 5),
        )
        for number, one in enumerate(results)
        for shift, judge in enumerate(["<b>first</b>", "second|"])
        for variant in VARIANTS
    ]  # fmt: skip
    return {"explainer": "e", **summarise_ratings(ratings)}


@pytest.fixture(scope="package")
def page(results: list[Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page that reports the run."""
    from mlrcbench.runs.report import summarise, write_html

    path = tmp_path_factory.mktemp("page") / "report.html"
    write_html(summarise(results, "A <b>title</b>"), path)
    return path
