"""The ladder as a picture: each method's scores on every instance, and their mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlrcbench.catalog.card import Card
from mlrcbench.runs.drawing import BLUE, ORANGE, load_pyplot
from mlrcbench.score import SPLITS
from mlrcbench.testing.calibration.comparison import values
from mlrcbench.testing.calibration.measure import Measurement
from mlrcbench.testing.calibration.methods import Method

_COLOURS = {"dev": ORANGE, "test": BLUE}


def draw_ladder(
    measurements: Sequence[Measurement], methods: Sequence[Method], card: Card, path: Path
) -> None:
    """Draw one row per method, best at the top; dots are instances, bars are means.

    Args:
        measurements: See `measure`.
        methods: The methods to draw.
        card: The card, whose metric labels the axis.
        path: SVG or PNG file to write; the same measurements give the same SVG.

    Raises:
        RegistryError: matplotlib is not installed.
    """
    pyplot = load_pyplot()
    drawn = [method for method in methods if values(measurements, method.name, "test")]
    sign = 1.0 if card.metric.direction == "maximize" else -1.0
    drawn.sort(key=lambda method: sign * float(np.mean(values(measurements, method.name, "test"))))
    with pyplot.rc_context({"svg.hashsalt": card.id, "font.size": 10}):
        figure, axes = pyplot.subplots(figsize=(8, 0.6 + 0.34 * len(drawn)), layout="constrained")
        for row, method in enumerate(drawn):
            for split, offset in zip(SPLITS, (0.14, -0.14), strict=True):
                scores = values(measurements, method.name, split)
                if not scores:
                    continue
                heights, colour = [row + offset] * len(scores), _COLOURS[split]
                axes.plot(scores, heights, "o", color=colour, alpha=0.45, markersize=4, markeredgewidth=0)
                mean = float(np.mean(scores))
                axes.plot([mean], [row + offset], "|", color=colour, markersize=12, markeredgewidth=2.5)
        for name, colour in _COLOURS.items():
            axes.plot([], [], "o", color=colour, label=name)
        axes.set_yticks(range(len(drawn)), [method.label for method in drawn])
        unit = "" if card.metric.unit == "1" else f" ({card.metric.unit})"
        axes.set_xlabel(f"{card.metric.name}{unit}")
        axes.grid(axis="x", alpha=0.3)
        axes.legend(loc="lower right")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)
