"""Pictures as plain SVG text: boxes, words and arrows, legible on light and on dark pages."""

from __future__ import annotations

from html import escape

# Colours come in pairs: on light pages, on dark pages.
_COLOURS = {
    "ink": ("#1f2328", "#e6edf3"),
    "dim": ("#59636e", "#9aa4af"),
    "line": ("#0969da", "#58a6ff"),
    "fill": ("#ddf4ff", "#10233d"),
    "file": ("#f6f8fa", "#1b2129"),
    "edge": ("#8c959f", "#6e7781"),
    "warn": ("#bc4c00", "#f0883e"),
    "hot": ("#fff1e5", "#33210f"),
    "lane0": ("#8250df", "#bc8cff"),
    "lane1": ("#1a7f37", "#3fb950"),
    "lane2": ("#bf3989", "#f778ba"),
    "lane3": ("#9a6700", "#d29922"),
}
_ARROWS = ("line", "edge", "warn", "lane0", "lane1", "lane2", "lane3")
_RULES = """\
text{font-family:system-ui,-apple-system,"Segoe UI",Arial,sans-serif;font-size:13px;fill:var(--ink)}
.name{font-weight:600}
.head{font-size:15px;font-weight:600}
.note{font-size:12px;fill:var(--dim)}
.small{font-size:11px;fill:var(--dim)}
.code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:12px}
rect{stroke-width:1.2}
.box{fill:var(--fill);stroke:var(--line)}
.file{fill:var(--file);stroke:var(--edge)}
.loose{fill:var(--file);stroke:var(--edge);stroke-dasharray:5 3}
.hostile{fill:var(--hot);stroke:var(--warn);stroke-dasharray:5 3}
path{fill:none;stroke-width:1.5}
.dashed{stroke-dasharray:5 3}
"""
_RADIUS = 7.0

Point = tuple[float, float]


class Svg:
    """A picture that grows by one element at a time; equal calls give equal text.

    Args:
        title: What readers hear who cannot see it.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._elements: list[str] = []

    def box(self, x: float, y: float, width: float, height: float, kind: str = "box") -> None:
        """A rectangle; `kind` is "box", "file", "loose" or "hostile"."""
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self._elements.append(f'<rect class="{kind}" {place} rx="6"/>')

    def text(self, x: float, y: float, words: str, kind: str = "note", anchor: str = "start") -> None:
        """Words on one line; `kind` is "name", "head", "note", "small" or "code"."""
        place = f'x="{x:g}" y="{y:g}"' + ("" if anchor == "start" else f' text-anchor="{anchor}"')
        self._elements.append(f'<text class="{kind}" {place}>{escape(words, quote=False)}</text>')

    def dot(self, x: float, y: float, colour: str = "line", radius: float = 6.0) -> None:
        """A filled circle."""
        self._elements.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" style="fill:var(--{colour})"/>')

    def arrow(
        self, points: list[Point], colour: str = "line", *, dashed: bool = False, head: bool = True
    ) -> None:
        """A line with rounded corners, and a head at its last point; `colour` is one of `_ARROWS`."""
        style = ' class="dashed"' if dashed else ""
        end = f' marker-end="url(#{colour})"' if head else ""
        ends = f'style="stroke:var(--{colour})"{end}'
        self._elements.append(f'<path{style} d="{_rounded(points)}" {ends}/>')

    def render(self, width: float, height: float, scale: float = 1.0) -> str:
        """The whole picture, `scale` times as large as its coordinates say where there is room for it."""
        light = "".join(f"--{name}:{pair[0]};" for name, pair in _COLOURS.items())
        dark = "".join(f"--{name}:{pair[1]};" for name, pair in _COLOURS.items())
        heads = "\n".join(
            f'<marker id="{name}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" '
            f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z" '
            f'style="stroke:none;fill:var(--{name})"/></marker>'
            for name in _ARROWS
        )
        size = f'viewBox="0 0 {width:g} {height:g}" width="{width * scale:g}" height="{height * scale:g}"'
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<title>{escape(self._title, quote=False)}</title>",
            f"<style>\nsvg{{{light}}}",
            f"@media (prefers-color-scheme:dark){{svg{{{dark}}}}}",
            f"{_RULES}</style>",
            f"<defs>\n{heads}\n</defs>",
            *self._elements,
            "</svg>\n",
        ]
        return "\n".join(lines)


def _rounded(points: list[Point]) -> str:
    """A path along horizontal and vertical lines, with round corners."""
    parts = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(_RADIUS, _distance(before, corner) / 2, _distance(corner, after) / 2)
        start, end = _towards(corner, before, radius), _towards(corner, after, radius)
        parts.append(f"L{start[0]:g} {start[1]:g}Q{corner[0]:g} {corner[1]:g} {end[0]:g} {end[1]:g}")
    parts.append(f"L{points[-1][0]:g} {points[-1][1]:g}")
    return "".join(parts)


def _distance(a: Point, b: Point) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def _towards(start: Point, goal: Point, length: float) -> Point:
    """The point at a distance from `start` on the way to `goal`."""
    share = length / _distance(start, goal)
    return (
        round(start[0] + (goal[0] - start[0]) * share, 1),
        round(start[1] + (goal[1] - start[1]) * share, 1),
    )
