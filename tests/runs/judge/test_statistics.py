"""Correlations and agreement, compared with results by hand and published ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlrcbench.aggregates import spearman
from mlrcbench.runs.judge.statistics import (
    Pairs,
    _correlations,
    bootstrap_correlation,
    ordinal_alpha,
    rank_correlation,
)

# Ratings that follow improvement within each competition; the easier one is rated lower.
SIMPSON = {"easy": [(1.0, 0.8), (2.0, 0.9)], "hard": [(4.0, 0.1), (5.0, 0.2)]}
_ = 0
# Krippendorff (2011), section C: four observers, twelve units; 0 stands for a missing rating.
PUBLISHED = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3),
    (_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _),
)


def test_competitions_are_not_compared_with_each_other() -> None:
    """Pooling changes the sign: rank differences of 2 everywhere give 1 - 6 * 16 / 60."""
    assert rank_correlation(SIMPSON, within=False) == pytest.approx(-0.6)
    assert rank_correlation(SIMPSON, within=True) == pytest.approx(1.0)


def test_the_stratified_correlation_by_hand() -> None:
    """One competition of 2 in order, one of 3 with a swap: (1/8 + 1/9) / (1/8 + 2/9)."""
    pairs = {"a": [(1.0, 1.0), (2.0, 2.0)], "b": [(1.0, 5.0), (2.0, 4.0), (3.0, 6.0)]}
    assert rank_correlation(pairs, within=True) == pytest.approx((1 / 8 + 1 / 9) / (1 / 8 + 2 / 9))
    alone = {"b": pairs["b"]}
    assert rank_correlation(alone, within=True) == pytest.approx(0.5)
    assert rank_correlation(alone, within=False) == pytest.approx(0.5)


@given(st.lists(st.tuples(st.integers(1, 5), st.floats(-5, 5)), max_size=8))
def test_one_competition_alone_is_spearmans(pairs: list[tuple[float, float]]) -> None:
    """Both kinds are equal, or both are undefined."""
    left, right = rank_correlation({"a": pairs}, within=False), rank_correlation({"a": pairs}, within=True)
    assert (left is None) == (right is None)
    assert left is None or right is None or math.isclose(left, right, abs_tol=1e-9)


def test_intervals_hold_the_value_and_know_when_there_is_none() -> None:
    """The same seed gives the same interval; equal ratings and too few episodes give no interval."""
    pairs: Pairs = {"a": [(float(i % 5), i + (7 * i) % 4) for i in range(20)], "b": [(1.0, 1.0), (2.0, 3.0)]}
    interval = bootstrap_correlation(pairs, within=True, resamples=200)
    assert interval is not None
    assert -1 <= interval.lower < interval.value < interval.upper <= 1
    assert interval == bootstrap_correlation(pairs, within=True, resamples=200)
    undefined: list[Pairs] = [{}, {"a": []}, {"a": [(1.0, 2.0)]}, {"a": [(3.0, 1.0), (3.0, 2.0)]}]
    for case in undefined:
        assert bootstrap_correlation(case, within=True) is None
        assert bootstrap_correlation(case, within=False) is None


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(-3, 3)), min_size=2, max_size=6), st.integers(0, 99))
def test_counting_draws_is_drawing(pairs: list[tuple[int, int]], seed: int) -> None:
    """The correlation of counted units is that of the units as often as they were counted."""
    count = np.random.default_rng(seed).multinomial(len(pairs), [1 / len(pairs)] * len(pairs))
    drawn = [pair for pair, times in zip(pairs, count, strict=True) for _ in range(times)]
    (correlation,) = _correlations([np.array(pairs, float)], [count[None].astype(float)], within=True)
    left, right = zip(*drawn, strict=True)
    if len(set(left)) > 1 and len(set(right)) > 1:
        assert correlation == pytest.approx(spearman(left, right))
    else:
        assert np.isnan(correlation)


def test_alpha_is_the_published_one() -> None:
    """0.815 for ordinal data."""
    units = [[row[unit] for row in PUBLISHED if row[unit]] for unit in range(12)]
    assert ordinal_alpha(units) == pytest.approx(0.815, abs=5e-4)


def test_alpha_by_hand() -> None:
    """Two agreements and a difference of one step: 1 - 18 / (162 / 5); and extreme cases."""
    assert ordinal_alpha([[1, 1], [2, 2], [1, 2]]) == pytest.approx(1 - 18 / 32.4)
    assert ordinal_alpha([[1, 1, 1], [5, 5, 5]]) == pytest.approx(1.0)
    assert ordinal_alpha([[1, 5], [5, 1]]) == pytest.approx(-0.5)
    assert ordinal_alpha([[3, 3], [3, 3]]) is None
    assert ordinal_alpha([[1], [2], []]) is None
