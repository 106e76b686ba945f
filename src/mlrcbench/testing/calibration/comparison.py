"""Statistics of measurements: means, spreads, paired differences, the order of a ladder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mlrcbench.aggregates import spearman
from mlrcbench.catalog.card import Card
from mlrcbench.score import SPLITS, Split
from mlrcbench.testing.calibration.measure import Measurement
from mlrcbench.testing.calibration.methods import Method

_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much the reference is better than the baseline, instance by instance.

    Attributes:
        mean: The mean difference in the metric's unit; positive where the reference is better.
        spread: Standard deviation over instances.
        error: Standard error of the mean.
        smallest: The smallest difference of an instance.
        wins: On how many instances the reference is better.
        count: How many instances were compared.
    """

    mean: float
    spread: float
    error: float
    smallest: float
    wins: int
    count: int


def values(measurements: Iterable[Measurement], method: str, split: Split) -> list[float]:
    """Scores of a method's first runs, by instance; failures are left out."""
    first_runs = [one for one in measurements if (one.method, one.split, one.repeat) == (method, split, 0)]
    return [one.value for one in sorted(first_runs, key=lambda one: one.instance) if one.value is not None]


def paired_difference(measurements: Sequence[Measurement], card: Card, split: Split) -> Difference:
    """The difference between reference and baseline on the same instances."""
    sign = 1.0 if card.metric.direction == "maximize" else -1.0
    pairs = zip(
        values(measurements, "reference", split), values(measurements, "baseline", split), strict=True
    )
    gaps = np.array([sign * (reference - baseline) for reference, baseline in pairs])
    spread = float(gaps.std(ddof=1)) if len(gaps) > 1 else 0.0
    return Difference(
        mean=float(gaps.mean()),
        spread=spread,
        error=spread / len(gaps) ** 0.5,
        smallest=float(gaps.min()),
        wins=int((gaps > 0).sum()),
        count=len(gaps),
    )


def between(
    measurements: Sequence[Measurement], split: Split, errors: Sequence[Measurement] | None = None
) -> float | None:
    """What instances and seeds add to the draw of items, for the card: see `Anchor.between`.

    The variance of the baseline's scores over instances, less the mean square of their standard errors, as a
    standard deviation; 0 if the items explain all of it.

    Args:
        measurements: Those whose spread counts.
        split: "dev" or "test".
        errors: Those whose standard errors count, if they are others.

    Returns:
        The part, in the metric's unit; None if there are fewer than two instances, or no errors.
    """
    scores = values(measurements, "baseline", split)
    known = [
        one.error
        for one in (measurements if errors is None else errors)
        if (one.method, one.split, one.repeat) == ("baseline", split, 0) and one.error is not None
    ]
    if len(scores) < 2 or not known:
        return None
    return math.sqrt(max(0.0, float(np.var(scores, ddof=1) - np.mean(np.square(known)))))


def on_shared_instances(measurements: Sequence[Measurement], methods: Sequence[Method]) -> list[Measurement]:
    """Measurements on the instances that the methods measured so far have in common."""
    measured = [{one.instance for one in measurements if one.method == method.name} for method in methods]
    common = set.intersection(*filter(None, measured)) if any(measured) else set()
    return [one for one in measurements if one.instance in common]


def ladder_correlation(
    measurements: Sequence[Measurement], methods: Sequence[Method], card: Card, split: Split
) -> float | None:
    """The rank correlation of published ranks and mean scores on shared instances; None below three steps."""
    steps = [method for method in methods if method.published is not None]
    shared = on_shared_instances(measurements, steps)
    means = [values(shared, method.name, split) for method in steps]
    if len(steps) < 3 or not all(means):
        return None
    sign = 1.0 if card.metric.direction == "maximize" else -1.0
    return spearman([method.published or 0.0 for method in steps], [sign * float(np.mean(m)) for m in means])


def tables(measurements: Sequence[Measurement], methods: Sequence[Method], card: Card) -> str:
    """All tables as Markdown: anchors, methods on the instances that they share, noise and costs."""
    shared = on_shared_instances(measurements, methods)
    numbers = sorted({one.instance for one in shared})
    which = f"instance{'s'[: len(numbers) != 1]} {', '.join(map(str, numbers)) or '-'}"
    parts = [
        "### By instance\n\n" + _by_instance(measurements),
        f"### By method, on {which}\n\n" + _by_method(shared, methods, card),
        "### Reference against baseline\n\n" + "\n".join(_differences(measurements, methods, card)),
        "### Costs\n\n" + _costs(measurements, methods),
    ]
    return "\n\n".join(parts) + "\n"


def _by_instance(measurements: Sequence[Measurement]) -> str:
    lines = [
        "| instance | dev baseline | dev reference | test baseline | test reference |",
        "|---|---|---|---|---|",
    ]
    columns = [(split, name) for split in SPLITS for name in ("baseline", "reference")]
    scores = {(one.instance, one.split, one.method): one.value for one in measurements if one.repeat == 0}
    for number in sorted({one.instance for one in measurements}):
        cells = [_number(scores.get((number, *column))) for column in columns]
        lines.append(f"| {number} | {' | '.join(cells)} |")
    cells = [_spread(values(measurements, name, split)) for split, name in columns]
    lines.append(f"| mean ± sd (range) | {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_method(measurements: Sequence[Measurement], methods: Sequence[Method], card: Card) -> str:
    lines = [
        "| method | kind | published rank | instances | dev: mean ± sd (range) | test: mean ± sd (range) |",
        "|---|---|---|---|---|---|",
    ]
    largest = card.metric.direction == "maximize"
    rows = sorted(methods, key=lambda method: _mean(measurements, method), reverse=not largest)
    for method in rows:
        scores = [values(measurements, method.name, split) for split in SPLITS]
        rank = "" if method.published is None else f"{method.published:g}"
        cells = [_spread(each) for each in scores]
        lines.append(f"| {method.label} | {method.kind} | {rank} | {len(scores[-1])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _differences(measurements: Sequence[Measurement], methods: Sequence[Method], card: Card) -> list[str]:
    lines = []
    for split in SPLITS:
        gap = paired_difference(measurements, card, split)
        times = f"{gap.mean / gap.error:.0f} standard errors" if gap.error else "no spread"
        noise = _noise(measurements, split)
        lines.append(
            f"- {split}: better by {gap.mean:.4g} on average, sd {gap.spread:.3g}, "
            f"smallest {gap.smallest:.4g}, on {gap.wins} of {gap.count} instances. "
            f"The mean is {times} from 0. {noise}"
        )
        if (part := between(measurements, split)) is not None:
            lines.append(f"- {split}: the draw of items apart, the baseline varies by between = {part:.2g}.")
        correlation = ladder_correlation(measurements, methods, card, split)
        if correlation is not None:
            lines.append(f"- {split}: Spearman correlation with the published order: {correlation:.2f}.")
    return lines


def _noise(measurements: Sequence[Measurement], split: Split) -> str:
    """How much the same code on the same instance varies."""
    runs: dict[tuple[str, int], list[float]] = {}
    for one in measurements:
        if one.split == split and one.value is not None:
            runs.setdefault((one.method, one.instance), []).append(one.value)
    repeated = [scores for scores in runs.values() if len(scores) > 1]
    if not repeated:
        return "No code was run twice."
    noise = float(np.mean([np.std(scores, ddof=1) for scores in repeated]))
    if noise == 0.0:
        return f"The same code gave the same digits ({len(repeated)} pairs of runs)."
    return f"Repeating the same code has a standard deviation of {noise:.3g}."


def _costs(measurements: Sequence[Measurement], methods: Sequence[Method]) -> str:
    lines = ["| CPU seconds | mean | range | largest memory, MiB |", "|---|---|---|---|"]
    builds = {one.instance: one.build_cpu_seconds for one in measurements}
    lines.append(_cost("build, both splits", list(builds.values()), ""))
    for method in methods:
        if method.write is None:
            mine = [one for one in measurements if one.method == method.name]
            memory = max((one.peak_memory_bytes for one in mine), default=0) // _MEBIBYTE
            lines.append(_cost(method.label, [one.cpu_seconds for one in mine], str(memory)))
    return "\n".join(lines)


def _cost(label: str, seconds: Sequence[float], memory: str) -> str:
    if not seconds:
        return f"| {label} | - | - | - |"
    return f"| {label} | {np.mean(seconds):.1f} | {min(seconds):.1f} to {max(seconds):.1f} | {memory} |"


def _mean(measurements: Sequence[Measurement], method: Method) -> float:
    scores = [value for split in SPLITS for value in values(measurements, method.name, split)]
    return float(np.mean(scores)) if scores else 0.0


def _spread(scores: Sequence[float]) -> str:
    if not scores:
        return "no score"
    if len(scores) == 1:
        return _number(scores[0])
    return f"{np.mean(scores):.4g} ± {np.std(scores, ddof=1):.2g} ({min(scores):.4g} to {max(scores):.4g})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
