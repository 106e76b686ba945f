"""Results of the full tier on the paper's scale, to stand in the paper's own table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mlrcbench.paper import read_paper
from mlrcbench.registry import get_competition
from mlrcbench.runs import Result, read_results
from mlrcbench.runs.plan import read_plan

_TIER = "full"


def full_results(directories: Iterable[Path]) -> list[Result]:
    """The results of those runs that played the full tier.

    Raises:
        RunError: A directory holds no run.
    """
    return [
        result
        for directory in directories
        if read_plan(directory).tier == _TIER
        for result in read_results(directory)
    ]


def beside_paper(results: Iterable[Result]) -> dict[str, dict[str, float]]:
    """Agent -> competition -> the best improvement over its episodes, as the paper reports it.

    Where the paper's metric is another than ours (a card's `paper_detail`), the improvement is that of the
    detail between the paper's anchors.

    Args:
        results: Of the full tier.
    """
    found: dict[str, dict[str, float]] = {}
    for result in results:
        name = result.assignment.competition
        improvement = _on_papers_scale(result)
        if name in read_paper().anchors and improvement is not None:
            mine = found.setdefault(result.assignment.agent, {})
            mine[name] = max(improvement, mine.get(name, improvement))
    return found


def _on_papers_scale(result: Result) -> float | None:
    name = result.assignment.competition
    detail = get_competition(name).card.tier(_TIER).paper_detail
    if not detail or not result.test or detail not in result.test.get("details", {}):
        return result.improvement
    baseline, human = read_paper().anchors[name]
    return float((result.test["details"][detail] - baseline) / (human - baseline))
