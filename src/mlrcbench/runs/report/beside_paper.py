"""Results of the full tier on the paper's scale, as rows for the paper's table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mlrcbench.catalog.registry import get_competition
from mlrcbench.runs import Result, read_results
from mlrcbench.runs.paper import read_paper
from mlrcbench.runs.plan import read_plan

_TIER = "full"


def full_results(directories: Iterable[Path]) -> list[Result]:
    """The results of the runs that played the full tier.

    Raises:
        RunError: A directory holds no run.
    """
    return [
        result
        for directory in directories
        if read_plan(directory).settings.tier == _TIER
        for result in read_results(directory)
    ]


def beside_paper(results: Iterable[Result]) -> dict[str, dict[str, float]]:
    """Agent -> competition -> the best improvement over its episodes, as the paper reports it.

    Where the paper's metric differs from ours (a card's `paper_detail`), the improvement is computed from
    that detail of the score and the paper's anchors.

    Args:
        results: Results of the full tier.
    """
    best: dict[str, dict[str, float]] = {}
    for result in results:
        name = result.assignment.competition
        improvement = _on_papers_scale(result)
        if name in read_paper().anchors:
            row = best.setdefault(result.assignment.agent, {})
            row[name] = max(improvement, row.get(name, improvement))
    return best


def _on_papers_scale(result: Result) -> float:
    """The improvement on test, between the paper's anchors where the card names a detail for it."""
    name = result.assignment.competition
    detail = get_competition(name).card.tier(_TIER).paper_detail
    if not detail or not result.test or detail not in result.test.get("details", {}):
        return result.improvement
    baseline, human = read_paper().anchors[name]
    return result.bounded(float((result.test["details"][detail] - baseline) / (human - baseline)))
