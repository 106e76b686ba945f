"""Write the table of what instances and evaluations cost into `docs/costs.md`, from the calibrations.

python -m tools.costs [--check]
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mlrcbench.testing.calibration import Measurement, read_measurements
from tools.draw_ladders import ROOT, competition_of, logs
from tools.stale import refresh

PAGE = ROOT / "docs" / "costs.md"
BEGIN, END = "<!-- costs: begin -->\n", "<!-- costs: end -->\n"
_HEAD = (
    "competition",
    "building an instance",
    "evaluating the baseline",
    "evaluating the reference",
    "largest memory, MiB",
    "limit of an evaluation, CPU s",
)


def table() -> str:
    """A row for each competition; CPU seconds are means, with their range."""
    lines = [f"| {' | '.join(_HEAD)} |", f"|{'---|' * len(_HEAD)}"]
    for log in logs():
        card = competition_of(log).card
        measured = read_measurements(log)
        by_method = {
            name: [one for one in measured if one.method == name] for name in ("baseline", "reference")
        }
        both = [one for played in by_method.values() for one in played]
        cells = [
            f"[{card.id}](competitions/{card.id}.md)",
            _seconds(both, lambda one: one.build_cpu_seconds),
            *(_seconds(played, lambda one: one.cpu_seconds) for played in by_method.values()),
            f"{max(one.peak_memory_bytes for one in both) / 2**20:.0f}",
            f"{card.tier('mini').limits.evaluation_cpu_seconds:g}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def fresh() -> dict[Path, str]:
    """The page with its table as the calibrations have it now."""
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    return {PAGE: f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"}


def _seconds(measured: Sequence[Measurement], figure: Callable[[Measurement], float]) -> str:
    seconds = [value for one in measured if (value := figure(one)) > 0]
    return f"{statistics.mean(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


if __name__ == "__main__":
    sys.exit(refresh(fresh(), sys.argv[1:], "tools.costs", ROOT))
