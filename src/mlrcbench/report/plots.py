"""Figures as SVG texts, to be put into a page; drawn with matplotlib, in colours all can tell apart."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlrcbench.errors import RegistryError
from mlrcbench.report.summary import CURVES, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, which colour-blind readers can tell apart; with markers for the rest.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C00", "#7F7F7F")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def draw_all(report: Report) -> dict[str, str]:
    """Title -> SVG; only figures for which there are numbers.

    Raises:
        RegistryError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise RegistryError("reports with figures need matplotlib: pip install 'mlrcbench[plot]'") from None
    matplotlib.use("Agg")
    figures: dict[str, str] = {}
    for name, words in CURVES.items():
        curves = {agent: found[name] for agent, found in report.curves.items() if found[name]}
        if any(len(curve) > 1 for curve in curves.values()):
            figures[f"{words[0].upper()}{words[1:]}, by evaluation"] = _lines(
                curves, "evaluation on dev", words
            )
    if any(len(curve) > 1 for curve in report.pass_at.values()):
        figures["Chance of a success within k trials (pass@k)"] = _lines(report.pass_at, "k", "pass@k")
    if len(report.costs) > 1:
        figures["Time against improvement"] = _costs(report.costs, "seconds", "seconds")
    priced = {agent: cost for agent, cost in report.costs.items() if "money" in cost}
    if len(priced) > 1:
        figures["Money against improvement"] = _costs(priced, "money", "US dollars")
    if any(one["outcome"] != "scored" for one in report.episodes):
        figures["Outcomes by kind"] = _outcomes(report.episodes)
    for found in report.judgements:
        for variant in dict.fromkeys(row["variant"] for row in found["correlations"]):
            title = f"Judge correlations, {variant}, within competitions"
            figures[title] = _correlations(
                [row for row in found["correlations"] if row["variant"] == variant]
            )
    return figures


def _lines(curves: Mapping[str, Sequence[float]], across: str, up: str) -> str:
    from matplotlib.ticker import MaxNLocator

    def draw(axes: Axes) -> None:
        for number, (agent, curve) in enumerate(curves.items()):
            places = range(1, len(curve) + 1)
            axes.plot(places, curve, label=agent[:40], **_style(number))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.legend(fontsize=8)

    return _svg(draw)


def _costs(costs: Mapping[str, Mapping[str, float]], name: str, unit: str) -> str:
    """Each agent a point; the line joins those that no other beats in both."""

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
    for one in episodes:
        counts.setdefault(one["agent"], Counter())[one["outcome"]] += 1
    kinds = sorted({one["outcome"] for one in episodes}, key=lambda kind: (kind != "scored", kind))

    def draw(axes: Axes) -> None:
        names = [agent[:25] for agent in counts]
        places = range(len(names))
        begin = [0.0] * len(names)
        for number, kind in enumerate(kinds):
            shares = [found[kind] / found.total() for found in counts.values()]
            axes.barh(places, shares, left=begin, label=kind, color=_COLOURS[number % len(_COLOURS)])
            begin = [left + share for left, share in zip(begin, shares, strict=True)]
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set_xlabel("share of episodes")
        axes.legend(fontsize=8)

    return _svg(draw)


def _correlations(rows: Sequence[Mapping[str, Any]]) -> str:
    """Each dimension a line with its interval, for each judge a colour; within competitions only."""
    rows = [row for row in rows if row["kind"] == "within competitions"]
    names = list(dict.fromkeys(row["dimension"] for row in rows))
    judges = list(dict.fromkeys(row["judge"] for row in rows))

    def draw(axes: Axes) -> None:
        for number, judge in enumerate(judges):
            mine = [row for row in rows if row["judge"] == judge and row["value"] is not None]
            places = [
                names.index(row["dimension"]) + 0.6 * (number + 0.5) / len(judges) - 0.3 for row in mine
            ]
            ends = [
                [row["value"] - row["lower"] for row in mine],
                [row["upper"] - row["value"] for row in mine],
            ]
            style = {**_style(number), "linestyle": "none"}
            values = [row["value"] for row in mine]
            axes.errorbar(values, places, xerr=ends, label=str(judge)[:40], capsize=3, **style)
        axes.axvline(0, color="#888888", linewidth=1, zorder=0)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(-1, 1)
        axes.set_xlabel("rank correlation of rating and improvement (95 %)")
        axes.legend(fontsize=8)

    return _svg(draw)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those of (cost, gain) that no other point matches at less cost; by cost."""
    front: list[tuple[float, float]] = []
    for cost, gain in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or gain > front[-1][1]:
            front.append((cost, gain))
    return front


def _style(number: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "markersize": 5,
        "linewidth": 1.5,
    }


def _svg(draw: Any) -> str:
    """One figure; its text is the page's, so that it follows the page's colours."""
    import matplotlib
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "mlrcbench", "svg.fonttype": "none", "font.size": 10}):
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


def _keep_referenced(text: str) -> Any:
    """Ids that nothing refers to are dropped, as several figures share one page."""
    used = set(re.findall(r"#([\w-]+)", text))

    def replace(match: re.Match[str]) -> str:
        return match.group() if match.group()[5:-1] in used else ""

    return replace
