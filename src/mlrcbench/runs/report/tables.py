"""A report's figures as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping
from typing import Any

from mlrcbench.runs.report.figures import Report
from mlrcbench.runs.report.process_table import process_rows

_SCALE = (
    "Relative improvement to human on test, in percent: 0 is the baseline, 100 the top human entry, or the "
    "reference solution where no human entered. A success closes more than 5 % of the gap, by more than "
    "1.645 standard errors where these are known."
)


def to_markdown(report: Report) -> str:
    """Leaderboard, best trials, pass@k and failures as Markdown tables."""
    names = report.competitions
    lines = [
        f"# {_cell(report.title)}",
        "",
        _SCALE,
        "",
        f"| agent | {' | '.join(names)} | mean | interquartile mean (95 %) | success | failures |",
        f"|{'---|' * (len(names) + 5)}",
    ]
    for row in report.rows:
        cells = [_percent(row.means.get(name)) for name in names]
        low, high = _percent(row.robust.lower), _percent(row.robust.upper)
        robust = f"{_percent(row.robust.value)} ({low} to {high})"
        failures = (
            ", ".join(f"{count} {outcome}" for outcome, count in sorted(row.failures.items())) or "none"
        )
        ends = [_percent(row.mean), robust, f"{100 * row.success:.0f} %", failures]
        lines.append(f"| {_cell(row.agent)} | {' | '.join([*cells, *ends])} |")
    lines += ["", "## Best trial per competition, as the paper reports", ""]
    lines += [f"| agent | {' | '.join(names)} |", f"|{'---|' * (len(names) + 1)}"]
    for agent, best in report.best.items():
        lines.append(f"| {_cell(agent)} | {' | '.join(_percent(best.get(name)) for name in names)} |")
    lines += ["", "## Chance of a success within k trials", "", "| agent | k = 1, 2, ... |", "|---|---|"]
    for agent, curve in report.pass_at.items():
        lines.append(f"| {_cell(agent)} | {', '.join(f'{value:.2f}' for value in curve)} |")
    if report.process:
        header, *rows = process_rows(report.process)
        lines += ["", "## How the agents worked", ""]
        lines += [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
        lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    for judgement in report.judgements:
        lines += ["", *_judgement(judgement)]
    return "\n".join(lines) + f"\n\nmlrcbench {report.version}, {len(report.episodes)} episodes\n"


def _judgement(judgement: Mapping[str, Any]) -> list[str]:
    explainer = _cell(str(judgement["explainer"]))
    lines = [
        f"## Judge correlations: {judgement['episodes']} episodes, explained by {explainer}",
        "",
        "| judge | variant | dimension | compared | rank correlation with improvement (95 %) |",
        "|---|---|---|---|---|",
    ]
    for row in judgement["correlations"]:
        figure = "not defined"
        if row["value"] is not None:
            figure = f"{row['value']:+.2f} ({row['lower']:+.2f} to {row['upper']:+.2f})"
        cells = [row["judge"], row["variant"], row["dimension"], row["kind"], figure]
        lines.append(f"| {' | '.join(_cell(str(cell)) for cell in cells)} |")
    return lines


def to_csv(report: Report) -> str:
    """The report's episodes as CSV, one line each."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(report.episodes[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _harmless(value) for key, value in one.items()} for one in report.episodes)
    return file.getvalue()


def to_json(report: Report) -> str:
    """All figures of the report, without the records."""
    figures = {
        "title": report.title,
        "mlrcbench": report.version,
        "leaderboard": [dataclasses.asdict(row) for row in report.rows],
        "best": report.best,
        "pass_at": report.pass_at,
        "curves": report.curves,
        "costs": report.costs,
        "episodes": report.episodes,
        "judgements": report.judgements,
        "process": report.process,
    }
    return json.dumps(figures, indent=1, allow_nan=False) + "\n"


def _harmless(value: Any) -> Any:
    """A value for a cell; a text that a spreadsheet would run as a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")) else value


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _cell(text: str) -> str:
    """Text escaped so that it stays within its Markdown cell."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
