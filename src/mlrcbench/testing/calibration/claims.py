"""What a point on a competition's scale claims, and what was measured of it.

A score is to say whether an agent did research. That is a claim about noise, about what can be had without
an idea, about the order of published methods, and about costs; each has a bound. A calibration measures
the claims with its own lines, and with methods of the ladder file that name the claim that they try to
break (`tries`): a competition that loses to them is wrong.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mlrcbench.catalog.card import Card
from mlrcbench.catalog.scale import improvement
from mlrcbench.errors import CardError
from mlrcbench.score import SPLITS, Split
from mlrcbench.storage.strict import Table
from mlrcbench.testing.calibration.comparison import ladder_correlation, values
from mlrcbench.testing.calibration.measure import Measurement
from mlrcbench.testing.calibration.methods import Method

FILE = "claims.toml"
# Normal quantiles for a two-sided test at 5 %, and for a power of 80 %.
_QUANTILES = 1.959964 + 0.841621
_PAIRED_GAIN = 0.05
_FEWEST_STEPS = 6
_SECONDS = {"baseline": 20.0, "reference": 40.0}
_BUILD_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim.

    Attributes:
        name: What is claimed, in words.
        measured: The figure, of the worse split; None if it was not measured.
        bound: What the figure may be.
        side: Whether the bound is the largest or the smallest value allowed.
        basis: What it was measured on.
        days: The first and the last day on which that was done, as ISO dates; after "partly" if some days
            were not noted, and empty if none was.
    """

    name: str
    measured: float | None
    bound: float
    side: Literal["at most", "at least"]
    basis: str = ""
    days: str = ""

    @property
    def word(self) -> str:
        """One of "holds", "MISSED" and "not measured"."""
        if self.measured is None:
            return "not measured"
        held = self.measured <= self.bound if self.side == "at most" else self.measured >= self.bound
        return "holds" if held else "MISSED"


def claims(measurements: Sequence[Measurement], methods: Sequence[Method], card: Card) -> list[Claim]:
    """All claims about the tier mini, in a fixed order.

    Args:
        measurements: Those of a calibration.
        methods: The methods that were measured; see `read_methods`.
        card: The competition's card, whose anchors make the scale.
    """
    scale = _Scale(measurements, methods, card)
    return [*_noise(scale), *_shortcuts(scale), *_order(scale), *_costs(scale)]


def read_claims(path: Path) -> list[Claim]:
    """The claims that stand in a competition's folder; none if the file does not exist.

    Raises:
        CardError: The file cannot be read, or an entry is unknown or of the wrong type.
    """
    if not path.exists():
        return []
    try:
        table = Table(tomllib.loads(path.read_text("utf-8")), str(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CardError(f"{path}: {error}") from error
    rows = [_read_claim(entry) for entry in table.tables("claims")]
    table.done("claims")
    return rows


def _read_claim(table: Table) -> Claim:
    claim = Claim(
        name=table.take("name", str),
        measured=table.take("measured", float) if "measured" in table.left() else None,
        bound=table.take("bound", float),
        side=table.choice("side", ("at most", "at least")),
        basis=table.take("basis", str, ""),
        days=table.take("days", str, ""),
    )
    table.done(*Claim.__dataclass_fields__)
    return claim


def claims_text(rows: Sequence[Claim]) -> str:
    """Claims as the TOML that `read_claims` reads."""
    blocks = []
    for one in rows:
        lines = ["[[claims]]", f"name = {json.dumps(one.name)}"]
        lines += [] if one.measured is None else [f"measured = {one.measured:.3f}"]
        lines += [f"bound = {one.bound}", f'side = "{one.side}"', f"basis = {json.dumps(one.basis)}"]
        blocks.append("\n".join([*lines, f"days = {json.dumps(one.days)}"]) + "\n")
    return "\n".join(blocks)


def format_claims(rows: Sequence[Claim]) -> str:
    """Claims as a table in Markdown."""
    lines = ["| claim | measured | bound | | on | when |", "|---|---|---|---|---|---|"]
    for one in rows:
        figure = "-" if one.measured is None else f"{one.measured:.2f}"
        lines.append(
            f"| {one.name} | {figure} | {one.side} {one.bound:g} | {one.word} | {one.basis} | {one.days} |"
        )
    return "\n".join(lines)


class _Scale:
    """Improvements of methods, on the scale of the card."""

    def __init__(self, measurements: Sequence[Measurement], methods: Sequence[Method], card: Card) -> None:
        self.measurements = measurements
        self.methods = methods
        self.card = card

    def gains(self, method: str, split: Split) -> dict[int, float]:
        """Instance -> improvement of a method's first run; failures are left out."""
        anchors = self.card.tier("mini").anchors[split]
        return {
            one.instance: improvement(one.value, anchors)
            for one in self.measurements
            if (one.method, one.split, one.repeat) == (method, split, 0) and one.value is not None
        }

    def mean(self, method: str, split: Split) -> float | None:
        """Mean improvement of a method; None if it was not measured."""
        return _average(list(self.gains(method, split).values()))

    def leads(self, method: str, other: str, split: Split) -> list[float]:
        """By how much a method is better than another, on each instance that both have."""
        mine, theirs = self.gains(method, split), self.gains(other, split)
        return [mine[one] - theirs[one] for one in sorted(set(mine) & set(theirs))]

    def figure(self, method: Method, split: Split, *, compared: bool) -> float | None:
        """Mean improvement of a method, or its mean lead over the method beside it."""
        if compared:
            return _average(self.leads(method.name, method.beside, split))
        return self.mean(method.name, split)

    def tries(self, what: str) -> list[Method]:
        """The methods that try to break a claim."""
        return [method for method in self.methods if method.tries == what]

    def claim(
        self,
        name: str,
        figures: Sequence[float | None],
        bound: float,
        *,
        of: Sequence[str],
        side: Literal["at most", "at least"] = "at most",
    ) -> Claim:
        """A claim whose figure is the worst of some, measured on some methods."""
        known = [figure for figure in figures if figure is not None and math.isfinite(figure)]
        if not known:
            return Claim(name, None, bound, side)
        lines = [one for one in self.measurements if one.method in of]
        measured = {one.method for one in lines}
        shared = [{one.instance for one in lines if one.method == method} for method in measured]
        instances = len(set.intersection(*shared)) if shared else 0
        days = sorted({one.day for one in lines if one.day})
        when = " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))
        if days and not all(one.day for one in lines):
            when = f"partly {when}"
        which = f"{len(measured)} methods, " if len(measured) > 1 else ""
        basis = f"{which}{instances} instance{'s'[: instances != 1]}"
        return Claim(name, max(known) if side == "at most" else min(known), bound, side, basis, when)


def _noise(scale: _Scale) -> Iterator[Claim]:
    """One episode says something, and a gain of five points can be seen."""
    for method, bound in (("baseline", 0.10), ("reference", 0.15)):
        spreads = [_spread(list(scale.gains(method, split).values())) for split in SPLITS]
        name = f"standard deviation of the {method}'s improvement over instances"
        yield scale.claim(name, spreads, bound, of=[method])
    spread = _spread(scale.leads("reference", "baseline", "test"))
    count = None if spread is None else (_QUANTILES * spread / _PAIRED_GAIN) ** 2
    name = "instances for a paired difference of 0.05 at 80 % power, on test"
    yield scale.claim(name, [count], 30.0, of=["reference"])


def _shortcuts(scale: _Scale) -> Iterator[Claim]:
    """What needs no idea earns little."""
    rows = (  # what is tried, its name, the bound, and whether the method is compared with another one
        ("compute", "the reference with more compute, restarts or averages", 1.15, False),
        ("generator", "a method that has a copy of the generator", 1.10, False),
        ("generator", "the same, less the method without the copy", 0.10, True),
        ("metric", "a trick of the metric, less the method without it", 0.05, True),
        ("reseeds", "the best of ten seeds on dev, less one seed, on test", 0.05, True),
    )
    for what, name, bound, compared in rows:
        tried = scale.tries(what)
        splits: tuple[Split, ...] = ("test",) if what == "reseeds" else SPLITS
        # A trick must gain on the average of both splits: a single one is noise.
        figures = [
            _average([scale.figure(method, split, compared=compared) for split in splits]) for method in tried
        ]
        yield scale.claim(name, figures, bound, of=[method.name for method in tried])


def _order(scale: _Scale) -> Iterator[Claim]:
    """There is room above the reference, and published methods keep their order."""
    bounds = [method for method in scale.methods if method.kind == "bound"]
    names = [method.name for method in bounds]
    best = [max((scale.mean(name, split) or -math.inf for name in names), default=None) for split in SPLITS]
    yield scale.claim("the best bound or oracle", best, 1.5, of=names, side="at least")
    steps = [method.name for method in scale.methods if method.published is not None]
    enough = len([name for name in steps if values(scale.measurements, name, "test")]) >= _FEWEST_STEPS
    orders = [ladder_correlation(scale.measurements, scale.methods, scale.card, split) for split in SPLITS]
    name = "Spearman's correlation with the published order, six methods or more"
    yield scale.claim(name, orders if enough else [], 0.8, of=steps, side="at least")


def _costs(scale: _Scale) -> Iterator[Claim]:
    """Mean CPU seconds."""
    builds = {one.instance: one.build_cpu_seconds for one in scale.measurements if one.build_cpu_seconds > 0}
    name = "CPU seconds of building an instance"
    yield scale.claim(name, [_average(list(builds.values()))], _BUILD_SECONDS, of=["baseline"])
    for method, bound in _SECONDS.items():
        seconds = [one.cpu_seconds for one in scale.measurements if one.method == method]
        yield scale.claim(f"CPU seconds of evaluating the {method}", [_average(seconds)], bound, of=[method])


def _average(figures: Sequence[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return float(np.mean(known)) if known else None


def _spread(gains: Sequence[float]) -> float | None:
    return float(np.std(gains, ddof=1)) if len(gains) > 1 else None
