"""A real run to report, played once: two agents, two trials, and an agent that writes hostile text."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlrcbench.runs import Result, read_results, run

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
def page(results: list[Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of that run."""
    from mlrcbench.report import summarise, write_html

    path = tmp_path_factory.mktemp("page") / "report.html"
    write_html(summarise(results, "A <b>title</b>"), path)
    return path
