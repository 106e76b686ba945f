"""The command `report`: results on the terminal and in files."""

from __future__ import annotations

import argparse
from pathlib import Path

from mlrcbench.cli.judge_command import read_judgements
from mlrcbench.cli.options import AddCommand, a_path
from mlrcbench.cli.progress import Progress, say
from mlrcbench.errors import RunError
from mlrcbench.runs import Result, leaderboard_table, read_results
from mlrcbench.runs.paper import paper_table
from mlrcbench.runs.report import (
    beside_paper,
    full_results,
    process_table,
    summarise,
    to_csv,
    to_json,
    to_markdown,
    write_html,
)
from mlrcbench.storage.durable import replace_text


def add_report_command(add: AddCommand) -> None:
    """Add `report`."""
    report = add("report", _report, "Show results.")
    report.add_argument("run", type=a_path, nargs="*", help="directories of runs")
    report.add_argument("--paper", action="store_true", help="also show the results of MLRC-Bench's paper")
    report.add_argument(
        "--process", action="store_true", help="also show how the agents worked; docs/metrics.md explains it"
    )
    report.add_argument("--html", type=a_path, help="write one page with everything, to open in a browser")
    report.add_argument("--markdown", type=a_path, help="write the tables as Markdown")
    report.add_argument("--csv", type=a_path, help="write one line per episode")
    report.add_argument("--json", type=a_path, help="write all figures as JSON")
    report.add_argument("--title", help="title of the page (default: the directories' names)")
    report.add_argument("--quiet", action="store_true", help="show no progress lines")


def _report(options: argparse.Namespace) -> int:
    """Print the leaderboard of runs, and write the files that are asked for."""
    if options.paper:
        say(paper_table(beside_paper(full_results(options.run))))
    elif not options.run:
        raise RunError("there is nothing to report: name the directory of a run, or --paper")
    if not options.run:
        return 0
    results = [result for directory in options.run for result in _read(directory)]
    say(leaderboard_table(results))
    title = options.title or ", ".join(directory.name for directory in options.run)
    summary = summarise(results, title, read_judgements(options.run), process=options.process)
    if options.process:
        say(process_table(summary.process))
    for path, write in ((options.markdown, to_markdown), (options.csv, to_csv), (options.json, to_json)):
        if path:
            replace_text(path, write(summary))
    if options.html:
        with Progress(f"writing {options.html}", quiet=options.quiet):
            write_html(summary, options.html)
    return 0


def _read(directory: Path) -> list[Result]:
    """The results of a run; says how many episodes of its plan have none."""
    results = read_results(directory)
    missing = sum(result.outcome == "missing" for result in results)
    if missing:
        say(
            f"mlrcbench: {missing} of {len(results)} episodes of {directory} are missing: they have no "
            "result, and count as the baseline; the same run command plays them",
            error=True,
        )
    return results
