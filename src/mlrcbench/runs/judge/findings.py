"""Ratings -> figures, and the files that hold both: `judge.jsonl` and `summary.json`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median_low
from typing import Any

from mlrcbench.__version__ import __version__
from mlrcbench.errors import RunError, cause
from mlrcbench.runs.judge.questions import DIMENSIONS
from mlrcbench.runs.judge.statistics import bootstrap_correlation, ordinal_alpha
from mlrcbench.runs.judge.study import VARIANTS, Rating
from mlrcbench.storage.durable import replace_text
from mlrcbench.storage.strict import open_regular, parse_object

FOLDER, RATINGS, SUMMARY, CALLS = "judge", "judge.jsonl", "summary.json", "calls.jsonl"
ALL = "all"  # the mean over several judges
WITHIN, POOLED = "within competitions", "pooled"
_VERSION = 1
_MAX_BYTES = 64 << 20
_NEEDED = {"explainer", "episodes", "correlations", "agreement"}


def summarise_ratings(ratings: Sequence[Rating], *, seed: int = 0) -> dict[str, Any]:
    """Correlations of each dimension with improvement, and agreement, as JSON types.

    Args:
        ratings: The ratings of one study.
        seed: Seed of the bootstrap.
    """
    judges = sorted({one.judge for one in ratings})
    return {
        "judges": judges,
        "episodes": len({one.episode for one in ratings}),
        "ratings": len(ratings),
        "missing": sum(one.ratings is None for one in ratings),
        "correlations": [
            {"judge": judge, "variant": variant, "dimension": dimension, "kind": kind}
            | _correlation(_select(ratings, variant, judge), dimension, kind, seed)
            for judge in [*judges, *([ALL] if len(judges) > 1 else [])]
            for variant in VARIANTS
            for dimension in DIMENSIONS
            for kind in (WITHIN, POOLED)
        ],
        "agreement": [
            _agreement(_select(ratings, variant, ALL), variant, dimension, judges)
            for variant in VARIANTS
            for dimension in DIMENSIONS
        ],
    }


def write_judgement(folder: Path, ratings: Sequence[Rating], summary: dict[str, Any]) -> None:
    """Write ratings and summary into a folder, each file in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{json.dumps(dataclasses.asdict(one))}\n" for one in ratings)
    content = {"version": _VERSION, "mlrcbench": __version__, **summary}
    for name, text in ((RATINGS, lines), (SUMMARY, json.dumps(content, indent=1, allow_nan=False) + "\n")):
        replace_text(folder / name, text)


def read_judgement(directory: Path) -> dict[str, Any] | None:
    """The summary in a run's directory or in a study's folder; None if neither holds one.

    Raises:
        RunError: The summary cannot be read.
    """
    for path in (directory / FOLDER / SUMMARY, directory / SUMMARY):
        try:
            with open_regular(path, _MAX_BYTES) as file:
                summary = parse_object(file.read())
            if summary["version"] <= _VERSION:
                return {name: summary[name] for name in summary.keys() | _NEEDED}
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} is not a summary of a judge study: {cause(error)}; judge again") from None
        raise RunError(f"{path} has a later version; report it with the mlrcbench that wrote it")
    return None


def _select(ratings: Sequence[Rating], variant: str, judge: str) -> list[Rating]:
    return [one for one in ratings if one.variant == variant and judge in (one.judge, ALL)]


def _by_code(ratings: Sequence[Rating], dimension: str) -> list[list[tuple[Rating, int]]]:
    """For each code its ratings and their numbers on one dimension."""
    by_code: dict[tuple[str, str], list[tuple[Rating, int]]] = {}
    for one in ratings:
        if one.ratings is not None:
            by_code.setdefault((one.competition, one.code), []).append((one, one.ratings[dimension]))
    return list(by_code.values())


def _correlation(ratings: Sequence[Rating], dimension: str, kind: str, seed: int) -> dict[str, Any]:
    codes = _by_code(ratings, dimension)
    pairs: dict[str, list[tuple[float, float]]] = {}
    for rated in codes:
        pair = fmean(number for _, number in rated), fmean(one.improvement for one, _ in rated)
        pairs.setdefault(rated[0][0].competition, []).append(pair)
    interval = bootstrap_correlation(pairs, within=kind == WITHIN, seed=seed)
    return {
        "codes": len(codes),
        "value": None if interval is None else interval.value,
        "lower": None if interval is None else interval.lower,
        "upper": None if interval is None else interval.upper,
    }


def _agreement(ratings: Sequence[Rating], variant: str, dimension: str, judges: list[str]) -> dict[str, Any]:
    """Alpha between the samples of each judge, and between judges, each represented by its median."""
    samples: dict[str, list[list[int]]] = {judge: [] for judge in judges}
    medians = []
    for rated in _by_code(ratings, dimension):
        first = [(one, number) for one, number in rated if one.episode == rated[0][0].episode]
        by_judge = {judge: [number for one, number in first if one.judge == judge] for judge in judges}
        for judge, numbers in by_judge.items():
            samples[judge].append(numbers)
        medians.append([median_low(numbers) for numbers in by_judge.values() if numbers])
    return {
        "variant": variant,
        "dimension": dimension,
        "between judges": ordinal_alpha(medians),
        "between samples": {judge: ordinal_alpha(units) for judge, units in samples.items()},
    }
