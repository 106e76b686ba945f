"""Ratings -> figures, and the files that hold both: `judge.jsonl` and `summary.json`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median_low
from typing import Any

from mlrcbench import __version__
from mlrcbench.errors import RunError
from mlrcbench.files import replace_text
from mlrcbench.judge.prompts import DIMENSIONS
from mlrcbench.judge.statistics import bootstrap_correlation, ordinal_alpha
from mlrcbench.judge.study import VARIANTS, Rating

FOLDER, RATINGS, SUMMARY, CALLS = "judge", "judge.jsonl", "summary.json", "calls.jsonl"
ALL = "all"  # the mean over several judges
WITHIN, POOLED = "within competitions", "pooled"
_VERSION = 1
_NEEDED = {"explainer", "episodes", "correlations", "agreement"}


def summarise_ratings(ratings: Sequence[Rating], *, seed: int = 0) -> dict[str, Any]:
    """Correlations of each dimension with improvement, and agreement, as JSON types.

    Args:
        ratings: Of one study.
        seed: Of the bootstrap.
    """
    judges = sorted({one.judge for one in ratings})
    return {
        "judges": judges,
        "episodes": len({one.episode for one in ratings}),
        "ratings": len(ratings),
        "missing": sum(one.ratings is None for one in ratings),
        "correlations": [
            {"judge": judge, "variant": variant, "dimension": dimension, "kind": kind}
            | _correlation(_chosen(ratings, variant, judge), dimension, kind, seed)
            for judge in [*judges, *([ALL] if len(judges) > 1 else [])]
            for variant in VARIANTS
            for dimension in DIMENSIONS
            for kind in (WITHIN, POOLED)
        ],
        "agreement": [
            _agreement(_chosen(ratings, variant, ALL), variant, dimension, judges)
            for variant in VARIANTS
            for dimension in DIMENSIONS
        ],
    }


def write_judgement(folder: Path, ratings: Sequence[Rating], summary: dict[str, Any]) -> None:
    """Write both files, each in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{json.dumps(dataclasses.asdict(one))}\n" for one in ratings)
    told = {"version": _VERSION, "mlrcbench": __version__, **summary}
    for name, text in ((RATINGS, lines), (SUMMARY, json.dumps(told, indent=1, allow_nan=False) + "\n")):
        replace_text(folder / name, text)


def read_judgement(directory: Path) -> dict[str, Any] | None:
    """The summary in a run's directory, or in a folder that a study wrote; None if there is none.

    Raises:
        RunError: It cannot be read.
    """
    for path in (directory / FOLDER / SUMMARY, directory / SUMMARY):
        if path.exists():
            try:
                found: dict[str, Any] = json.loads(path.read_text("utf-8"))
                if found["version"] <= _VERSION:
                    return {name: found[name] for name in found.keys() | _NEEDED}
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise RunError(f"{path} is no summary of a judge study: {error}; judge again") from None
            raise RunError(f"{path} is of a later version; report it by the mlrcbench that wrote it")
    return None


def _chosen(ratings: Sequence[Rating], variant: str, judge: str) -> list[Rating]:
    return [one for one in ratings if one.variant == variant and judge in (one.judge, ALL)]


def _by_code(ratings: Sequence[Rating], dimension: str) -> list[list[tuple[Rating, int]]]:
    """For each code what was said about one dimension, with each episode that ended with it."""
    found: dict[tuple[str, str], list[tuple[Rating, int]]] = {}
    for one in ratings:
        if one.ratings is not None:
            found.setdefault((one.competition, one.code), []).append((one, one.ratings[dimension]))
    return list(found.values())


def _correlation(ratings: Sequence[Rating], dimension: str, kind: str, seed: int) -> dict[str, Any]:
    codes = _by_code(ratings, dimension)
    pairs: dict[str, list[tuple[float, float]]] = {}
    for found in codes:
        pair = fmean(number for _, number in found), fmean(one.improvement for one, _ in found)
        pairs.setdefault(found[0][0].competition, []).append(pair)
    interval = bootstrap_correlation(pairs, within=kind == WITHIN, seed=seed)
    return {
        "codes": len(codes),
        "value": None if interval is None else interval.value,
        "lower": None if interval is None else interval.lower,
        "upper": None if interval is None else interval.upper,
    }


def _agreement(ratings: Sequence[Rating], variant: str, dimension: str, judges: list[str]) -> dict[str, Any]:
    """Alpha between the samples of each judge, and between judges, each worth its middle sample."""
    samples: dict[str, list[list[int]]] = {judge: [] for judge in judges}
    middles = []
    for found in _by_code(ratings, dimension):
        first = [(one, number) for one, number in found if one.episode == found[0][0].episode]
        mine = {judge: [number for one, number in first if one.judge == judge] for judge in judges}
        for judge, numbers in mine.items():
            samples[judge].append(numbers)
        middles.append([median_low(numbers) for numbers in mine.values() if numbers])
    return {
        "variant": variant,
        "dimension": dimension,
        "between judges": ordinal_alpha(middles),
        "between samples": {judge: ordinal_alpha(units) for judge, units in samples.items()},
    }
