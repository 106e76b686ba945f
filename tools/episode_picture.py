"""Draw what an episode is, for the first screen of README and of the documentation: `docs/episode.svg`.

    python -m tools.episode_picture            writes the picture
    python -m tools.episode_picture --check    exits with 1 if it is out of date

The published methods and their improvements are those of a competition's ladder; the agent is an example.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import mlrcbench
from tools.stale import refresh
from tools.svg import Svg

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "episode.svg"
COMPETITION = "llm-merging"
TITLE = (
    "An agent reads the statement, works in a sandbox, evaluates on dev as often as its budget allows, and "
    "submits; its score on test says how much of the gap between the baseline and the best entry it closes"
)
WIDTH, HEIGHT, SCALE = 480.0, 372.0, 1.4
BOX, LEFT, RIGHT = (214.0, 70.0), 12.0, 254.0
AXIS, ZERO, ONE = 308.0, 52.0, 428.0
CROWDED = 90.0  # so far apart that two labels fit on one line
# What an agent's evaluations on dev might give, one after the other, and its score on test.
DEV, TEST = (-0.06, 0.21, 0.55, 0.72), 0.66
STATIONS = (
    (LEFT, 12.0, "1. An agent reads", "the statement, the data, the", "starter's code and its budget."),
    (RIGHT, 12.0, "2. It works", "It writes files and runs", "commands, in a sandbox."),
    (
        RIGHT,
        116.0,
        "3. It evaluates on dev",
        "As often as its budget allows, it",
        "learns how good its work is.",
    ),
    (LEFT, 116.0, "4. It submits", "Its best files are scored once, on", "test, out of its code's reach."),
)


def draw() -> str:
    """The picture: four stations in a circle, and below them the scale of the score."""
    svg = Svg(TITLE)
    width, height = BOX
    for x, y, head, first, second in STATIONS:
        svg.box(x, y, width, height)
        svg.text(x + 12, y + 23, head, "name")
        svg.text(x + 12, y + 42, first)
        svg.text(x + 12, y + 58, second)
    top, bottom = 12 + height / 2, 116 + height / 2
    svg.arrow([(LEFT + width, top), (RIGHT, top)])
    svg.arrow([(RIGHT + 150, 12 + height), (RIGHT + 150, 116)])
    svg.arrow([(RIGHT + 60, 116), (RIGHT + 60, 12 + height)])
    svg.text(RIGHT + 105, 103, "and again", "small", "middle")
    svg.arrow([(RIGHT, bottom), (LEFT + width, bottom)])
    _scale(svg)
    return svg.render(WIDTH, HEIGHT, SCALE)


def _scale(svg: Svg) -> None:
    """The improvement from baseline to target, with published methods below and an agent above."""
    svg.text(LEFT, 222, "How much of the gap does it close?", "name")
    svg.text(LEFT, 240, f"An example: {COMPETITION}, with published methods below the line.", "small")
    svg.arrow([(ZERO - 40, AXIS), (ONE + 40, AXIS)], "edge")
    for place, name, value in ((ZERO, "baseline", "0"), (ONE, "reference", "1")):
        svg.arrow([(place, AXIS - 42), (place, AXIS + 8)], "edge", head=False)
        svg.text(place, AXIS + 22, value, "name", "middle")
        svg.text(place, AXIS + 38, name, "note", "middle")
    row, before = 0, ZERO
    for label, improvement in published():
        x = _place(improvement)
        row = row + 1 if x - before < CROWDED else 0
        y, before = AXIS + 20 + 17 * row, x
        svg.arrow([(x, AXIS), (x, y)], "edge", head=False)
        svg.text(x - 5, y, label, "small", "end")
    for number, improvement in enumerate(DEV, 1):
        svg.dot(_place(improvement), AXIS - 14)
        svg.text(_place(improvement), AXIS - 26, f"dev {number}", "small", "middle")
    svg.dot(_place(TEST), AXIS, "warn", 7)
    svg.text(_place(TEST), AXIS - 42, f"test: {TEST:.0%} of the gap".replace("%", " %"), "name", "middle")


def published() -> list[tuple[str, float]]:
    """Published methods between baseline and target: names and improvements on test, from the left."""
    ladder = mlrcbench.get_competition(COMPETITION).ladder_of("mini")
    names = [
        (re.sub(r" \(.*", "", rung.label), rung.test) for rung in ladder if re.search(r"\d{4}\)$", rung.label)
    ]
    return sorted(names, key=lambda pair: pair[1])


def _place(improvement: float) -> float:
    return round(ZERO + improvement * (ONE - ZERO), 1)


def main(arguments: list[str]) -> int:
    """Write the picture, or with `--check` only say whether it is out of date."""
    return refresh({PICTURE: draw()}, arguments, "tools.episode_picture", ROOT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
