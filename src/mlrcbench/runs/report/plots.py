"""Figures as SVG texts for a page, drawn with matplotlib."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlrcbench.runs.drawing import COLOURS, MARKERS, load_pyplot
from mlrcbench.runs.report.figures import CURVES, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_all(report: Report) -> dict[str, str]:
    """Title -> SVG, for the figures that have numbers.

    Raises:
        RegistryError: matplotlib is not installed.
    """
    load_pyplot()  # fails at once where matplotlib is missing, whatever there is to draw
    figures: dict[str, str] = {}
    for name, label in CURVES.items():
        curves = {agent: by_name[name] for agent, by_name in report.curves.items() if by_name[name]}
        if any(len(curve) > 1 for curve in curves.values()):
            title = f"{label[0].upper()}{label[1:]}, by evaluation"
            figures[title] = _lines(curves, "evaluation on dev", label)
    if any(len(curve) > 1 for curve in report.pass_at.values()):
        figures["Chance of a success within k trials (pass@k)"] = _lines(report.pass_at, "k", "pass@k")
    if len(report.costs) > 1:
        figures["Time against improvement"] = _costs(report.costs, "seconds", "seconds")
    priced = {agent: cost for agent, cost in report.costs.items() if "money" in cost}
    if len(priced) > 1:
        figures["Money against improvement"] = _costs(priced, "money", "US dollars")
    if any(episode["outcome"] != "scored" for episode in report.episodes):
        figures["Outcomes by kind"] = _outcomes(report.episodes)
    for judgement in report.judgements:
        correlations = judgement["correlations"]
        for variant in dict.fromkeys(row["variant"] for row in correlations):
            title = f"Judge correlations, {variant}, within competitions"
            figures[title] = _correlations([row for row in correlations if row["variant"] == variant])
    return figures


def _lines(curves: Mapping[str, Sequence[float]], x_label: str, y_label: str) -> str:
    from matplotlib.ticker import MaxNLocator

    def draw(axes: Axes) -> None:
        for number, (agent, curve) in enumerate(curves.items()):
            numbers = range(1, len(curve) + 1)
            axes.plot(numbers, curve, label=agent[:40], **_style(number))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.legend(fontsize=8)

    return _svg(draw)


def _costs(costs: Mapping[str, Mapping[str, float]], name: str, unit: str) -> str:
    """One point for each agent; the line joins those that no other agent beats in both respects."""

    def draw(axes: Axes) -> None:
        for number, (agent, cost) in enumerate(costs.items()):
            style = {**_style(number), "linestyle": "none"}
            axes.plot([cost[name]], [cost["improvement"]], label=agent[:40], **style)
        front = pareto_front([(cost[name], cost["improvement"]) for cost in costs.values()])
        axes.step(*zip(*front, strict=True), where="post", color="#888888", linewidth=1, zorder=0)
        if all(cost[name] > 0 for cost in costs.values()):
            axes.set_xscale("log")
        axes.set_xlabel(f"mean {unit} per episode")
        axes.set_ylabel("mean improvement (1 = human)")
        axes.legend(fontsize=8)

    return _svg(draw)


def _outcomes(episodes: Sequence[Mapping[str, Any]]) -> str:
    """One bar for each agent, in shares of its episodes; "scored" first."""
    counts: dict[str, Counter[str]] = {}
    for episode in episodes:
        counts.setdefault(episode["agent"], Counter())[episode["outcome"]] += 1
    kinds = sorted({episode["outcome"] for episode in episodes}, key=lambda kind: (kind != "scored", kind))

    def draw(axes: Axes) -> None:
        names = [agent[:25] for agent in counts]
        heights = range(len(names))
        starts = [0.0] * len(names)
        for number, kind in enumerate(kinds):
            shares = [outcomes[kind] / outcomes.total() for outcomes in counts.values()]
            axes.barh(heights, shares, left=starts, label=kind, color=COLOURS[number % len(COLOURS)])
            starts = [start + share for start, share in zip(starts, shares, strict=True)]
        axes.set_yticks(heights, names)
        axes.invert_yaxis()
        axes.set_xlabel("share of episodes")
        axes.legend(fontsize=8)

    return _svg(draw)


def _correlations(rows: Sequence[Mapping[str, Any]]) -> str:
    """One row for each dimension, with intervals, and a colour for each judge; within competitions only."""
    rows = [row for row in rows if row["kind"] == "within competitions"]
    names = list(dict.fromkeys(row["dimension"] for row in rows))
    judges = list(dict.fromkeys(row["judge"] for row in rows))

    def draw(axes: Axes) -> None:
        for number, judge in enumerate(judges):
            rated = [row for row in rows if row["judge"] == judge and row["value"] is not None]
            offset = 0.6 * (number + 0.5) / len(judges) - 0.3
            heights = [names.index(row["dimension"]) + offset for row in rated]
            ends = [
                [row["value"] - row["lower"] for row in rated],
                [row["upper"] - row["value"] for row in rated],
            ]
            style = {**_style(number), "linestyle": "none"}
            values = [row["value"] for row in rated]
            axes.errorbar(values, heights, xerr=ends, label=str(judge)[:40], capsize=3, **style)
        axes.axvline(0, color="#888888", linewidth=1, zorder=0)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(-1, 1)
        axes.set_xlabel("rank correlation of rating and improvement (95 %)")
        axes.legend(fontsize=8)

    return _svg(draw)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, gain) whose gain no cheaper point reaches, by cost."""
    front: list[tuple[float, float]] = []
    for cost, gain in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or gain > front[-1][1]:
            front.append((cost, gain))
    return front


def _style(number: int) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 5,
        "linewidth": 1.5,
    }


def _svg(draw: Callable[[Axes], None]) -> str:
    """A figure as SVG; its text stays text, which readers can select and search."""
    pyplot = load_pyplot()
    with pyplot.rc_context({"svg.hashsalt": "mlrcbench", "svg.fonttype": "none", "font.size": 10}):
        figure, axes = pyplot.subplots(figsize=(6.4, 3.8), layout="constrained")
        draw(axes)
        axes.grid(alpha=0.3)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        pyplot.close(figure)
    text = file.getvalue()
    return re.sub(r' id="[^"]*"', _keep_referenced(text), text[text.index("<svg") :])


def _keep_referenced(text: str) -> Callable[[re.Match[str]], str]:
    """A replacement that drops ids to which nothing refers, as several figures share one page."""
    used = set(re.findall(r"#([\w-]+)", text))

    def replace(match: re.Match[str]) -> str:
        return match.group() if match.group()[5:-1] in used else ""

    return replace
