"""The first picture of a report: how much of the gap each agent closed, and how sure that is.

One panel for all competitions together, and one for each competition, on a scale from the baseline (0) over
the published methods of the mini tier to the target (1). The picture is plain SVG, in the page's own colours;
a table beside it has the same figures.
"""

from __future__ import annotations

import contextlib
import html
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlrcbench.catalog.registry import get_competition
from mlrcbench.errors import MlrcbenchError
from mlrcbench.runs.plan import read_plan
from mlrcbench.runs.report.figures import Report
from mlrcbench.runs.results import Result

_WIDTH, _LEFT, _RIGHT = 480.0, 24.0, 456.0  # of a panel, and of its scale, in units of the SVG
_ROW, _TOP, _LABEL = 38.0, 10.0, 16.0
_LOWEST, _HIGHEST = -1.0, 1.5  # what is further away is drawn at the edge
_NEAR = 150.0  # two labels of published methods closer than this do not fit on one line
_LETTER = 6.5  # width of a letter of such a label
_MOST_AGENTS = 12
_NAME_CHARS = 34
OVERALL = "all competitions"
_TARGET = "human or reference"
# 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom.
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gain:
    """How much of a gap an agent closed, on one competition or over several.

    Attributes:
        mean: Mean improvement.
        half: Half the width of its 95 % interval; None if there are too few instances for one.
        instances: Number of instances; over several competitions, of all of them.
        episodes: Number of episodes.
        noise: Half the width of a 95 % interval from the standard errors of the scores; only if a single
            instance gives no other interval, and its scores tell their errors.
    """

    mean: float
    half: float | None
    instances: int
    episodes: int
    noise: float | None = None

    @property
    def text(self) -> str:
        """For people: "64.5 % (51.0 to 78.0), 3 instances"."""
        count = f"{self.instances} instance{'' if self.instances == 1 else 's'}"
        if self.half is None:
            noise = "" if self.noise is None else f" (± {100 * self.noise:.1f} by its noise)"
            return f"{100 * self.mean:.1f} %{noise}, {count}: no interval"
        low, high = 100 * (self.mean - self.half), 100 * (self.mean + self.half)
        return f"{100 * self.mean:.1f} % ({low:.1f} to {high:.1f}), {count}"


def gains(results: Iterable[Result]) -> dict[str, dict[str, Gain]]:
    """Agent -> competition, or `OVERALL`, -> how much of the gap it closed.

    Trials on one instance are not independent of each other, so an instance counts as one observation: the
    mean of its trials. Intervals are Student's, for two or more instances; the mean over competitions gives
    each the same weight, and its degrees of freedom are those of Welch and Satterthwaite (Satterthwaite, "An
    Approximate Distribution of Estimates of Variance Components", Biometrics 2, 1946), rounded down.
    """
    tree: dict[str, dict[str, dict[int, list[Result]]]] = {}
    for one in results:
        place = one.assignment
        instances = tree.setdefault(place.agent, {}).setdefault(place.competition, {})
        instances.setdefault(place.instance, []).append(one)
    return {agent: _gains(by_competition) for agent, by_competition in tree.items()}


def _gains(by_competition: Mapping[str, Mapping[int, Sequence[Result]]]) -> dict[str, Gain]:
    gained, parts = {}, []
    for name, instances in sorted(by_competition.items()):
        values = [math.fsum(one.improvement for one in trials) / len(trials) for trials in instances.values()]
        episodes = sum(map(len, instances.values()))
        mean, count = math.fsum(values) / len(values), len(values)
        error = (
            math.fsum((value - mean) ** 2 for value in values) / (count - 1) / count if count > 1 else None
        )
        half = None if error is None else _student(count - 1) * math.sqrt(error)
        gained[name] = Gain(mean, half, count, episodes, None if count > 1 else _noise(*instances.values()))
        parts.append((error, count))
    errors = [(error, count - 1) for error, count in parts if error is not None]
    half = None
    if len(errors) == len(parts):
        total = math.fsum(error for error, _ in errors)
        spread = math.fsum(error**2 / freedom for error, freedom in errors)
        freedom = total**2 / spread if spread else math.inf
        half = _student(freedom) * math.sqrt(total) / len(errors)
    mean = math.fsum(one.mean for one in gained.values()) / len(gained)
    instances_of_all = sum(one.instances for one in gained.values())
    gained[OVERALL] = Gain(mean, half, instances_of_all, sum(one.episodes for one in gained.values()))
    return gained


def _noise(trials: Sequence[Result]) -> float | None:
    """Half a 95 % interval of trials on one instance, whose errors share its items and do not average out."""
    errors = [error for one in trials if (error := one.improvement_error) is not None]
    return 1.96 * math.fsum(errors) / len(errors) if len(errors) == len(trials) else None


def _student(freedom: float) -> float:
    """The 97.5 % quantile of Student's t; beyond the table, where it differs by less than 0.01, the last."""
    return _STUDENT[int(min(max(freedom, 1), len(_STUDENT))) - 1]


def draw_gaps(report: Report) -> str:
    """The panels and the table as HTML; everything in it that an agent wrote is escaped."""
    everything = gains(report.results)
    agents = [row.agent for row in report.rows if row.agent in everything]
    sets = {tuple(sorted(everything[agent])) for agent in agents}
    notes = []
    if len(sets) > 1:
        notes.append("The agents were not played on the same competitions: compare them within one only.")
    if len(agents) > _MOST_AGENTS:
        notes.append(f"The picture shows the best {_MOST_AGENTS} of {len(agents)} agents; the table has all.")
    tier = _tier(report.results)
    names = report.competitions if len(report.competitions) == 1 else [OVERALL, *report.competitions]
    panels = "".join(
        _panel(
            name,
            [
                (agent, everything[agent][name])
                for agent in agents[:_MOST_AGENTS]
                if name in everything[agent]
            ],
            tier,
        )
        for name in names
    )
    warnings = "".join(f'<p class="bad">{html.escape(note)}</p>' for note in notes)
    return f'{warnings}<div class="gaps">{panels}</div>{_table(names, agents, everything)}'


def _tier(results: Sequence[Result]) -> str:
    """The tier in which all results were played; empty if there are several, or if it is not known."""
    tiers = set()
    for directory in {one.folder.parent.parent for one in results}:
        with contextlib.suppress(MlrcbenchError, OSError):
            tiers.add(read_plan(directory).settings.tier)
    return tiers.pop() if len(tiers) == 1 else ""


def _scale(competition: str, tier: str) -> tuple[str, list[tuple[str, float]]]:
    """What an improvement of 1 is, and the published methods: short names and improvements on test."""
    try:
        known = get_competition(competition)
        target = known.card.tier(tier).anchors["test"].target_kind
        ladder = known.ladder_of(tier)
    except MlrcbenchError:
        return _TARGET, []
    # The ends of the scale are the baseline's and the reference's own rungs.
    methods = [(_short(rung.label), rung.test) for rung in ladder if rung.test not in {0.0, 1.0}]
    return target, sorted(methods, key=lambda pair: pair[1])


def _short(label: str) -> str:
    """A method's name without its source."""
    name = re.split(r" \(|: |, ", label)[0]
    return name if len(name) <= _NAME_CHARS else f"{name[: _NAME_CHARS - 1]}…"


def _panel(name: str, rows: Sequence[tuple[str, Gain]], tier: str) -> str:
    target, methods = (_TARGET, []) if name == OVERALL else _scale(name, tier)
    halves = [gain.half or gain.noise or 0.0 for _, gain in rows]
    ends = [gain.mean + sign * half for (_, gain), half in zip(rows, halves, strict=True) for sign in (-1, 1)]
    low = max(_LOWEST, min([0.0, *ends])) - 0.05
    high = min(_HIGHEST, max([1.0, *ends])) + 0.05
    methods = [(label, value) for label, value in methods if low <= value <= high]

    def place(value: float) -> float:
        return round(_LEFT + (min(max(value, low), high) - low) / (high - low) * (_RIGHT - _LEFT), 1)

    axis = _TOP + _ROW * len(rows) + 4
    parts = [_line(place(end), _TOP, place(end), axis + 6, "anchor") for end in (0.0, 1.0)]
    parts += [f'<line class="axis" x1="{_LEFT}" y1="{axis}" x2="{_RIGHT}" y2="{axis}"/>']
    for label, value in (("0 % baseline", 0.0), (f"100 % {target}", 1.0)):
        end = min(place(value) + _LETTER * len(label) / 2, _WIDTH)
        parts.append(_text(end, axis + 20, label, "end-of-scale", "end"))
    ticks, bottom = _ticks([(label, place(value)) for label, value in methods], axis)
    parts += ticks
    for number, (agent, gain) in enumerate(rows):
        parts.append(_agent(agent, gain, _TOP + _ROW * number, place))
    said = "; ".join(f"{agent}: {gain.text}" for agent, gain in rows)
    picture = (
        f'<svg viewBox="0 0 {_WIDTH:g} {bottom + 6:g}" role="img" aria-label="{html.escape(said)}">'
        f"{''.join(parts)}</svg>"
    )
    return f"<figure><figcaption>{html.escape(name)}</figcaption>{picture}</figure>"


def _ticks(methods: Sequence[tuple[str, float]], axis: float) -> tuple[list[str], float]:
    """Published methods below a scale, given their places from the left; and where the lowest label ends."""
    lines: list[str] = []
    labels: list[str] = []
    row, before, bottom = 0, -math.inf, axis + 26
    for label, x in methods:
        row = row + 1 if x - before < _NEAR else 0
        y, width = axis + 36 + _LABEL * row, _LETTER * len(label)
        lines.append(_line(x, axis, x, y, "method"))
        before, bottom = x, max(bottom, y + 4)
        if x - 4 >= width:  # a label stands to the left of its tick, where there is room for it
            labels.append(_text(x - 4, y, label, "method", "end"))
        else:
            labels.append(_text(x + 4, y, label, "method", "start"))
            before += width
    return [*lines, *labels], bottom


def _agent(agent: str, gain: Gain, top: float, place: Callable[[float], float]) -> str:
    """An agent's row: its name and figures, and below them its interval and its mean."""
    y = top + 26
    figure = (
        f"{100 * gain.mean:.1f} %"
        if gain.half is not None
        else f"{100 * gain.mean:.1f} % (n = {gain.instances})"
    )
    parts = [
        f"<title>{html.escape(f'{agent}: {gain.text}')}</title>",
        f'<rect class="row" x="0" y="{top}" width="{_WIDTH}" height="{_ROW}"/>',
        _text(
            _LEFT,
            top + 13,
            agent if len(agent) <= _NAME_CHARS else f"{agent[: _NAME_CHARS - 1]}…",
            "agent",
            "start",
        ),
        _text(_RIGHT, top + 13, figure, "figure", "end"),
    ]
    half, kind = (gain.noise, "noise") if gain.half is None else (gain.half, "interval")
    if half is not None:
        parts.append(_line(place(gain.mean - half), y, place(gain.mean + half), y, kind))
    parts.append(f'<circle cx="{place(gain.mean)}" cy="{y}" r="5"/>')
    return f"<g>{''.join(parts)}</g>"


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _text(x: float, y: float, words: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(words)}</text>'


def _table(names: Sequence[str], agents: Sequence[str], everything: Mapping[str, Mapping[str, Gain]]) -> str:
    """The same figures as a table, folded."""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in ("agent", *names))
    rows = []
    for agent in agents:
        cells = [
            everything[agent][name].text if name in everything[agent] else "not played" for name in names
        ]
        rows.append(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in (agent, *cells))}</tr>")
    return (
        "<details><summary>The same as a table</summary>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        "</details>"
    )
