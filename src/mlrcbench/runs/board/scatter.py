"""The figure of a board: what entries cost and what they reach, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlrcbench.runs.board.markup import as_markup
from mlrcbench.runs.board.standing import Standing

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 12, 44
_TITLES = {"money": "US dollars per episode", "seconds": "seconds per episode"}


@dataclass(frozen=True, slots=True)
class _Scale:
    """A linear scale from values to places on the page."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float) -> _Scale:
        """The scale that leaves some room around all values."""
        low, high = min(values), max(values)
        room = 0.08 * (high - low) or 0.5
        return cls(low - room, high + room, start, end)

    def place(self, value: float) -> float:
        """The place of a value."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def scatter(rows: Sequence[Standing]) -> str:
    """A point for each entry, with a link to its line: the cost to the right, on a logarithmic scale.

    The cost is in US dollars if it is known of all entries, or else in seconds.
    """
    key = "money" if all(row.entry.costs.get("money", 0.0) > 0 for row in rows) else "seconds"
    costs = [math.log10(max(row.entry.costs[key], 1e-6)) for row in rows]
    reached = [100 * (row.again or row.public).value for row in rows]
    x = _Scale.around(costs, _LEFT, _WIDTH - _RIGHT)
    y = _Scale.around([0.0, *reached], _HEIGHT - _BOTTOM, _TOP)
    zero = y.place(0.0)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="improvement, cost" class="scatter">',
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{zero}" y2="{zero}"/>',
        *(_label(_LEFT - 6, y.place(value) + 4, "end", f"{value:.3g}") for value in (y.low, 0.0, y.high)),
        _label(x.start, _HEIGHT - 24, "start", f"{10**x.low:.3g}"),
        _label(x.end, _HEIGHT - 24, "end", f"{10**x.high:.3g}"),
        _label(_WIDTH / 2, _HEIGHT - 6, "middle", _TITLES[key]),
        _label(_LEFT + 4, _TOP + 10, "start", "improvement in percent"),
    ]
    for row, cost, value in zip(rows, costs, reached, strict=True):
        name = as_markup(row.entry.title)
        parts.append(
            f'<a href="#{row.entry.id}"><circle cx="{x.place(cost)}" cy="{y.place(value)}" r="6">'
            f"<title>{name}: {value:.1f}</title></circle></a>"
        )
    return "".join([*parts, "</svg>"])


def _label(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x}" y="{y}" class="{anchor}">{text}</text>'
