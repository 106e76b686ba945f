"""Statistics of ratings: their correlation with improvement, and the agreement of judges.

The unit is a code: the samples of its ratings are averaged first, and so are the improvements of
episodes that ended with the same code; the bootstrap draws whole units within competitions. The paper
pools all competitions, whose scales differ, so a judge who prefers the easier ones seems to recognise
quality. The stratified correlation compares within competitions only.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mlrcbench.aggregates import Interval

Array = npt.NDArray[np.float64]
# Competition -> (rating, improvement) of each unit.
Pairs = Mapping[str, Sequence[tuple[float, float]]]


def rank_correlation(pairs: Pairs, *, within: bool) -> float | None:
    """Spearman's correlation of rating and improvement; None if it is undefined.

    The pooled one is that of all units together, as MLRC-Bench computes it. Within competitions, ranks
    are taken in each and then pooled: with `a` and `b` the ranks of ratings and improvements
    among the `n` units of a competition, each less its mean and divided by `n`, it is
    `sum(a b) / sqrt(sum(a^2) sum(b^2))` over all units. For one competition both are the same;
    differences between competitions do not affect the latter.

    Args:
        pairs: See `Pairs`.
        within: Whether to compare within competitions only.
    """
    values = _arrays(pairs)
    value = float(_correlations(values, [np.ones((1, len(one))) for one in values], within=within)[0])
    return None if np.isnan(value) else value


def bootstrap_correlation(
    pairs: Pairs, *, within: bool, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval | None:
    """A percentile interval for `rank_correlation`: units are drawn again within each competition.

    Source: as `mlrcbench.aggregates.bootstrap`. Draws without a correlation, as all their ratings
    are equal, are left out; None if the value itself is undefined, or at least half of the draws are.
    """
    value = rank_correlation(pairs, within=within)
    if value is None:
        return None
    random, values = np.random.default_rng(seed), _arrays(pairs)
    # How often each unit is drawn, instead of the draws: `(resamples, units)` for each competition.
    counts = [
        random.multinomial(len(one), [1 / len(one)] * len(one), size=resamples).astype(float)
        for one in values
    ]
    drawn = _correlations(values, counts, within=within)
    defined = drawn[~np.isnan(drawn)]
    if len(defined) <= resamples / 2:
        return None
    lower, upper = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(lower), float(upper), level)


def _arrays(pairs: Pairs) -> list[Array]:
    return [np.array(units, dtype=float) for units in pairs.values() if units]


def _correlations(values: list[Array], counts: list[Array], *, within: bool) -> Array:
    """The correlation for each row of the counts, NaN where it is undefined: `(rows,)`."""
    if not within and values:
        values, counts = [np.concatenate(values)], [np.concatenate(counts, axis=1)]
    products = np.zeros((3, len(counts[0]) if counts else 1))
    for pair, count in zip(values, counts, strict=True):
        left, right = (_centred_ranks(pair[:, column], count) for column in (0, 1))
        products += [(count * one).sum(axis=1) for one in (left * right, left**2, right**2)]
    size = np.sqrt(products[1] * products[2])
    size[size == 0] = np.nan
    correlations: Array = np.clip(products[0] / size, -1, 1)
    return correlations


def _centred_ranks(values: Array, count: Array) -> Array:
    """Ranks among units that occur several times, less their mean, divided by their number.

    Args:
        values: `(units,)`; equal ones share the mean of their ranks.
        count: `(rows, units)`, each row with the same sum.

    Returns:
        `(rows, units)`; the value of a unit that is not drawn has no meaning.
    """
    kinds, place = np.unique(values, return_inverse=True)
    sizes = count @ np.eye(len(kinds))[place]
    ranks = (np.cumsum(sizes, axis=1) - (sizes + 1) / 2)[:, place]
    number = count.sum(axis=1, keepdims=True)
    centred: Array = (ranks - (number - 1) / 2) / number
    return centred


def ordinal_alpha(units: Iterable[Sequence[int]]) -> float | None:
    """Krippendorff's alpha for ordinal ratings: 1 is agreement, 0 what chance would give.

    `alpha = 1 - (n - 1) sum_ck o_ck d_ck / sum_ck n_c n_k d_ck` over categories `c`, `k`, where
    `o_ck` counts pairs of ratings of one unit, each weighted by `1 / (m_u - 1)` for a unit of `m_u`
    ratings, `n_c` is the sum of a row of `o`, `n` of all, and
    `d_ck = (n_c / 2 + n_(c+1) + ... + n_(k-1) + n_k / 2)^2` for `c < k`. Source: Krippendorff,
    "Computing Krippendorff's Alpha-Reliability" (2011), sections C and D.

    Args:
        units: The ratings of each rated thing, by any raters; things with fewer than two ratings say
            nothing and are left out.

    Returns:
        None if no two different ratings were given.
    """
    weights: dict[tuple[int, int], float] = {}
    for unit in units:
        if len(unit) >= 2:
            for pair in itertools.permutations(unit, 2):
                weights[pair] = weights.get(pair, 0.0) + 1 / (len(unit) - 1)
    kinds = sorted({left for left, _ in weights})
    if len(kinds) < 2:
        return None
    observed = np.array([[weights.get((left, right), 0.0) for right in kinds] for left in kinds])
    count = observed.sum(axis=1)
    middle = np.cumsum(count) - count / 2
    distance = (middle[:, None] - middle[None, :]) ** 2
    disagreement = float((observed * distance).sum())
    expected = float((np.outer(count, count) * distance).sum()) / float(count.sum() - 1)
    return 1 - disagreement / expected
