"""How ratings go with improvement, and how far judges agree.

The unit is the episode: the samples of its ratings are averaged first, and a bootstrap draws whole
episodes, within competitions. The paper pools all competitions, whose scales differ, so that a
judge who likes the easier ones seems to see quality. The stratified correlation compares within
competitions only.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mlrcbench.aggregates import Interval, ranks, spearman

Array = npt.NDArray[np.float64]
# Competition -> (rating, improvement) of each episode.
Pairs = Mapping[str, Sequence[tuple[float, float]]]


def pooled_spearman(pairs: Pairs) -> float | None:
    """Spearman's correlation over all episodes together, as MLRC-Bench computes it; None if undefined."""
    both = np.array([pair for found in pairs.values() for pair in found], dtype=float).reshape(-1, 2)
    if len(both) < 2 or not both.std(axis=0).all():
        return None
    return spearman(both[:, 0], both[:, 1])


def stratified_spearman(pairs: Pairs) -> float | None:
    """Spearman's correlation within competitions: ranks within each, then pooled; None if undefined.

    With `a` and `b` the ranks of ratings and improvements among the `n` episodes of a competition,
    each less its mean and divided by `n`, it is `sum(a b) / sqrt(sum(a^2) sum(b^2))` over all
    episodes. For one competition it is Spearman's correlation; what differs between competitions
    has no part in it.
    """
    columns = []
    for found in pairs.values():
        both = np.array(found, dtype=float).reshape(-1, 2)
        ranked = np.stack([ranks(both[:, 0]), ranks(both[:, 1])], axis=1)
        columns.append((ranked - (len(both) - 1) / 2) / max(1, len(both)))
    if not columns:
        return None
    left, right = np.concatenate(columns).T
    size = float(np.sqrt((left**2).sum() * (right**2).sum()))
    return float(left @ right) / size if size > 0 else None


def bootstrap_correlation(
    pairs: Pairs,
    statistic: Callable[[Pairs], float | None],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """A percentile interval: episodes are drawn anew within each competition.

    Source: as `mlrcbench.aggregates.bootstrap`. Draws without a correlation, since all ratings in
    them are equal, are left out; None if the value itself is undefined, or most draws are.
    """
    value = statistic(pairs)
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples if value is not None else 0):
        draw = {
            name: [found[place] for place in random.integers(len(found), size=len(found))]
            for name, found in pairs.items()
            if found
        }
        drawn.append(statistic(draw))
    defined = [one for one in drawn if one is not None]
    if value is None or len(defined) <= resamples / 2:
        return None
    lower, upper = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(lower), float(upper), level)


def ordinal_alpha(units: Iterable[Sequence[int]]) -> float | None:
    """Krippendorff's alpha for ordinal ratings: 1 is agreement, 0 what chance would give.

    `alpha = 1 - (n - 1) sum_ck o_ck d_ck / sum_ck n_c n_k d_ck` over categories `c`, `k`, where
    `o_ck` counts pairs of ratings of one unit, each weighted by `1 / (m_u - 1)` for a unit of `m_u`
    ratings, `n_c` is the sum of a row of `o`, `n` of all, and
    `d_ck = (n_c / 2 + n_(c+1) + ... + n_(k-1) + n_k / 2)^2` for `c < k`. Source: Krippendorff,
    "Computing Krippendorff's Alpha-Reliability" (2011), sections C and D.

    Args:
        units: For each thing that was rated its ratings, by any raters; those with fewer than two
            say nothing and are left out.

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
