"""The results of a retest, for a terminal and as JSON types."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from mlrcbench.aggregates import Interval
from mlrcbench.runs.bundles.opened import Bundle
from mlrcbench.runs.bundles.retest import Retest, summarise_retests
from mlrcbench.text import table


def retest_table(retests: Sequence[Retest]) -> str:
    """One line for each episode, then the means; improvements in percent."""
    header = ["episode", "public", "retest (95 %)", "difference (95 %)", "as good on", ""]
    rows = []
    for one in retests:
        if one.reason or one.mean is None or one.difference is None:
            rows.append([one.name, _percent(one.public), "-", "-", "-", f"not retested: {one.reason}"])
            continue
        count = f"{one.as_good} of {len(one.again)}"
        rows.append(
            [one.name, _percent(one.public), _shown(one.mean), _shown(one.difference), count, one.verdict]
        )
    summary = summarise_retests(retests)
    if summary is not None:
        cells = (_shown(summary.public), _shown(summary.again), _shown(summary.difference))
        rows.append(["mean of competitions", *cells, "", ""])
    return table(header, rows)


def retest_json(bundle: Bundle, retests: Sequence[Retest]) -> dict[str, Any]:
    """All figures, with the digest that says which bundle they are of."""
    summary = summarise_retests(retests)
    return {
        "bundle": bundle.digest,
        "agent": bundle.manifest.agent,
        "mean": None if summary is None else dataclasses.asdict(summary),
        "episodes": [
            {
                **dataclasses.asdict(one),
                "mean": one.mean and dataclasses.asdict(one.mean),
                "difference": one.difference and dataclasses.asdict(one.difference),
                "as_good": one.as_good,
                "verdict": one.verdict,
            }
            for one in retests
        ],
    }


def _shown(interval: Interval) -> str:
    """A value with its interval, which a single score does not have."""
    if interval.lower == interval.upper:
        return _percent(interval.value)
    return f"{_percent(interval.value)} ({_percent(interval.lower)} to {_percent(interval.upper)})"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
