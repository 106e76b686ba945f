"""Resampling: the standard error of a score, from the items that it was measured on.

A score is an estimate: with other test items of the same kind, the same work would have scored otherwise.
A scorer knows its items, and tells by how much. Nothing here is drawn at random, so that the same artefacts
give the same digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def error_of_mean(*groups: npt.ArrayLike, weights: Sequence[float] | None = None) -> float | None:
    """The standard error of a weighted sum of the means of groups, whose items are independent draws.

    `sqrt(sum of weight^2 * variance / items)`, with unbiased variances within the groups: the groups
    themselves are not drawn again. Source: Cochran, Sampling Techniques (1977), section 5.5.

    Args:
        groups: The values of the items of each group.
        weights: The weight of each group's mean; by default its share of all items, for the plain mean.

    Returns:
        The error, in the unit of the values; None if a group has fewer than two items, which do not tell
        how items differ, or if the values are too large to tell.
    """
    items = [np.asarray(group, dtype=np.float64).ravel() for group in groups]
    counts = [len(values) for values in items]
    if min(counts, default=0) < 2:
        return None
    shares = [count / sum(counts) for count in counts] if weights is None else weights
    with np.errstate(all="ignore"):
        variances = [float(values.var(ddof=1)) for values in items]
        total = sum(s * s * v / n for s, v, n in zip(shares, variances, counts, strict=True))
    return _finite_root(total)


def jackknife(left_out: npt.ArrayLike) -> float | None:
    """The standard error of any smooth figure, from its values without one item or one group of items.

    `sqrt((n - 1) / n * sum of squared deviations from their mean)`, which for a mean equals `error_of_mean`.
    Source: Efron and Stein, "The Jackknife Estimate of Variance" (Annals of Statistics 9, 1981).

    Args:
        left_out: The figure without the first item, without the second, and so on. Groups of items that are
            left out together must be equally large.

    Returns:
        The error, in the unit of the figure; None for fewer than two items, or if the values are too large.
    """
    values = np.asarray(left_out, dtype=np.float64)
    if len(values) < 2:
        return None
    with np.errstate(all="ignore"):
        return _finite_root((len(values) - 1) * float(values.var()))


def _finite_root(variance: float) -> float | None:
    return math.sqrt(variance) if math.isfinite(variance) else None
