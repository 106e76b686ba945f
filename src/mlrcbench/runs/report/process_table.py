"""How agents worked: the process metrics of runs, agent by agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mlrcbench.errors import RecordError
from mlrcbench.runs.process_metrics import ProcessMetrics, mean_metrics, process_metrics
from mlrcbench.runs.results import Result
from mlrcbench.storage.record import read_record
from mlrcbench.text import table

Means = Mapping[str, Mapping[str, float | None]]

# Metric -> heading, and whether it is a share, which is shown in percent.
COLUMNS: Mapping[str, tuple[str, bool]] = {
    "first_valid_step": ("first valid step", False),
    "first_valid_seconds": ("seconds to it", False),
    "evaluations": ("evaluations", False),
    "invalid_share": ("invalid", True),
    "regressions": ("regressions", False),
    "approaches": ("approaches", False),
    "algorithm_changes": ("changes of the algorithm", False),
    "constant_changes": ("of constants only", False),
    "algorithm_share": ("share of the former", True),
    "unused_steps": ("unused steps", True),
    "unused_seconds": ("unused seconds", True),
    "unused_evaluations": ("unused evaluations", True),
}


def process_means(results: Iterable[Result]) -> dict[str, dict[str, float | None]]:
    """Agent -> metric -> its mean over the agent's episodes that have it; see `ProcessMetrics`.

    Episodes without a record that can be read are left out.
    """
    metrics: dict[str, list[ProcessMetrics]] = {}
    for one in results:
        episodes = metrics.setdefault(one.assignment.agent, [])
        if one.record is not None:
            try:
                episodes.append(process_metrics(read_record(one.folder / one.record)))
            except RecordError:
                continue
    return {agent: mean_metrics(episodes) for agent, episodes in metrics.items()}


def process_rows(means: Means) -> list[list[str]]:
    """A heading, and a row for each agent."""
    rows = [["agent", *(title for title, _ in COLUMNS.values())]]
    for agent, values in means.items():
        rows.append([agent, *(_cell(values[name], is_share) for name, (_, is_share) in COLUMNS.items())])
    return rows


def process_table(means: Means) -> str:
    """The metrics for a terminal; shares in percent."""
    header, *rows = process_rows(means)
    return table(header, rows)


def _cell(value: float | None, is_share: bool) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.0f} %" if is_share else f"{value:.1f}"
