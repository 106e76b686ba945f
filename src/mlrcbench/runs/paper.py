"""The paper's results for comparison: the data of `paper.toml`, and means that follow from them."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlrcbench.aggregates import interquartile_mean, mean_of_best
from mlrcbench.text import table


@dataclass(frozen=True, slots=True)
class Paper:
    """What MLRC-Bench's tables print.

    Attributes:
        source: The paper and its version.
        improvements: Agent -> competition -> improvement on test (1 = human), best of 8 trials.
        printed_means: Agent -> the mean that the paper prints, rounded to 0.001.
        human_gains: Competition -> (human - baseline) / baseline on test.
        anchors: Competition -> (baseline, top human) on test, in its own unit.
    """

    source: str
    improvements: Mapping[str, Mapping[str, float]]
    printed_means: Mapping[str, float]
    human_gains: Mapping[str, float]
    anchors: Mapping[str, tuple[float, float]]

    def mean(self, agent: str) -> float:
        """The plain mean of an agent's row, as the paper averages."""
        return mean_of_best({name: [value] for name, value in self.improvements[agent].items()})

    def robust_mean(self, agent: str) -> float:
        """The interquartile mean of the same row: no single competition decides it."""
        return interquartile_mean({name: [value] for name, value in self.improvements[agent].items()})


@functools.cache
def read_paper() -> Paper:
    """The paper's figures, which the package contains."""
    data = tomllib.loads(Path(__file__).with_name("paper.toml").read_text("utf-8"))
    names = data["improvement"]["competitions"]
    rows = data["improvement"]["agents"]
    return Paper(
        source=data["source"],
        improvements={
            agent: {name: value / 100 for name, value in zip(names, row, strict=True)}
            for agent, row in rows.items()
        },
        printed_means={agent: value / 100 for agent, value in data["improvement"]["printed"].items()},
        human_gains={n: value / 100 for n, value in zip(names, data["human"]["gain"], strict=True)},
        anchors={name: (low, high) for name, (low, high) in data["anchors"].items()},
    )


def paper_table(others: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """The paper's table for a terminal: percent of the way from baseline to human, and means.

    Args:
        others: Further rows: agent -> competition -> improvement (1 = human). A row has a mean if it has
            every competition.
    """
    paper = read_paper()
    names = list(paper.human_gains)
    short = [name.split("-")[0] for name in names]
    header = ["agent", *short, "mean", "interquartile mean"]
    rows = []
    for agent in sorted(paper.improvements, key=paper.mean, reverse=True):
        values = [paper.improvements[agent][name] for name in names]
        means = [paper.mean(agent), paper.robust_mean(agent)]
        rows.append([agent, *(f"{100 * value:.1f}" for value in (*values, *means))])
    for agent, improvements in (others or {}).items():
        scores = {name: [improvements[name]] for name in names if name in improvements}
        cells = [f"{100 * improvements[name]:.1f}" if name in improvements else "-" for name in names]
        complete = len(scores) == len(names)
        means = [mean_of_best(scores), interquartile_mean(scores)] if complete else []
        rows.append(
            [f"{agent} (this run)", *cells, *([f"{100 * value:.1f}" for value in means] or ["-", "-"])]
        )
    gains = [paper.human_gains[name] for name in names]
    cells = [f"{100 * gain:.1f}" for gain in (*gains, float(np.mean(gains)))]
    return table(header, [*rows, ["human's gain over the baseline", *cells, ""]])
