"""Statistics: the error of one score from its items; figures over many scores, with intervals.

An improvement is a score's `improvement`: 0 is the baseline, 1 the top human entry (the paper
prints percent). It is unbounded, so a single bad run can decide a plain mean. The paper's figures
are here as it defines them, next to figures that a single run cannot move: the
interquartile mean with a stratified bootstrap interval, and the performance profile, both after
Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(NeurIPS 2021, arXiv 2108.13264).

A score itself is an estimate: with other test items of the same kind, the same work would have scored
otherwise. Scorers tell by how much with `error_of_mean` and `jackknife`, which draw nothing at random, so
that the same artefacts give the same digits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# A trial succeeds, in the paper's sense, above this share of the human's gain over the baseline.
SUCCESS = 0.05
# How many standard errors beyond it: a normal estimate of no improvement gets there in 5 % of all trials.
CONFIDENCE = 1.645
_NEAR_BASELINE = 1e-3
# 97.5 % quantiles of Student's t distribution with 1, 2, ... degrees of freedom.
_STUDENT = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
)  # fmt: skip

Array = npt.NDArray[np.float64]
Scores = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        value: The statistic of the scores themselves.
        lower: Lower end of the interval.
        upper: Upper end of the interval.
        level: Share of intervals that hold the truth, for example 0.95.
    """

    value: float
    lower: float
    upper: float
    level: float


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


def relative_gain(value: float, baseline: float) -> float:
    """Gain over the baseline as a share of its size: `(value - baseline) / |baseline|`.

    Source: MLRC-Bench, appendix (there in percent). The division is by the size without its
    sign, so that a larger value is a gain for a negative baseline too.

    Raises:
        ValueError: The baseline is 0, which has no size.
    """
    if baseline == 0:
        raise ValueError("a gain relative to a baseline of 0 is not defined; use the improvement instead")
    return (value - baseline) / abs(baseline)


def relative_cost(value: float, baseline: float) -> float:
    """Runtime or code size beyond the baseline's, relative to it: `(value - baseline) / baseline`.

    Source: MLRC-Bench, section 3, efficiency and simplicity (there in percent).

    Args:
        value: The method's seconds, or its logical lines.
        baseline: The baseline's, in the same unit and measured on the same machine; above 0.
    """
    if baseline <= 0:
        raise ValueError(f"a baseline's cost is above 0, not {baseline}")
    return (value - baseline) / baseline


def mean_of_best(scores: Scores) -> float:
    """The paper's headline: the best trial of each competition, then the plain mean over competitions.

    Args:
        scores: For each competition, the improvements of its trials.
    """
    return float(np.mean([max(trials) for trials in scores.values()]))


def mean_of_all(scores: Scores) -> float:
    """The mean over the trials of each competition, then the plain mean over competitions."""
    return float(np.mean([np.mean(trials) for trials in scores.values()]))


def interquartile_mean(scores: Scores) -> float:
    """The mean of the middle half of all trials, pooled: a quarter is cut off at each end.

    Source: Agarwal et al. 2021, section 4.3. Where a quarter of n trials is not a whole number,
    the trials at the cuts count in part, so that exactly n/2 are averaged.
    """
    pooled = np.sort(np.concatenate([np.asarray(trials, dtype=float) for trials in scores.values()]))
    count = len(pooled)
    places = np.arange(count)
    weights = np.clip(np.minimum(places + 1, 0.75 * count) - np.maximum(places, 0.25 * count), 0.0, 1.0)
    return float(weights @ pooled / weights.sum())


def bootstrap(
    scores: Scores,
    statistic: Callable[[Scores], float] = interquartile_mean,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """A percentile interval by stratified bootstrap: trials are drawn again within each competition.

    Source: Agarwal et al. 2021, section 4.1. The same seed gives the same interval.

    Args:
        scores: For each competition, the improvements of its trials.
        statistic: The figure to estimate, a function of such scores.
        level: Share of intervals that hold the truth.
        resamples: How often trials are drawn.
        seed: Seed of the draws.
    """
    random = np.random.default_rng(seed)
    arrays = {name: np.asarray(trials, dtype=float) for name, trials in scores.items()}
    estimates = [
        statistic({name: list(random.choice(trials, len(trials))) for name, trials in arrays.items()})
        for _ in range(resamples)
    ]
    lower, upper = np.quantile(estimates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(statistic(scores), float(lower), float(upper), level)


def difference_of_means(
    one: Scores, other: Scores, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """How much larger the first `mean_of_all` is, with a percentile interval by stratified bootstrap.

    Args:
        one: For each competition, the improvements of some trials.
        other: The same of others, for the same competitions.
        level: Share of intervals that hold the truth.
        resamples: How often trials are drawn, of both sides independently.
        seed: Seed of the draws.
    """
    random = np.random.default_rng(seed)

    def means(scores: Scores) -> Array:
        drawn = [
            random.choice(np.asarray(scores[name], dtype=float), (resamples, len(scores[name]))).mean(axis=1)
            for name in sorted(scores)
        ]
        total: Array = np.mean(drawn, axis=0)
        return total

    lower, upper = np.quantile(means(one) - means(other), [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean_of_all(one) - mean_of_all(other), float(lower), float(upper), level)


def student_interval(values: Sequence[float]) -> Interval:
    """The mean of a few independent values, with its 95 % interval by Student's t distribution.

    A bootstrap of fewer than about ten values is too narrow; this is exact if the values are normal.
    Source: Student, "The Probable Error of a Mean" (Biometrika 6, 1908).

    Raises:
        ValueError: There are fewer than two values.
    """
    count = len(values)
    if count < 2:
        raise ValueError("an interval of a mean needs at least two values")
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    half = _student_quantile(count - 1) * spread / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, 0.95)


def _student_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t; beyond the table an expansion after Cornish and Fisher."""
    if degrees <= len(_STUDENT):
        return _STUDENT[degrees - 1]
    normal = 1.959964
    return normal + (normal**3 + normal) / (4 * degrees)


def performance_profile(scores: Scores, thresholds: Sequence[float]) -> Array:
    """The share of trials above each threshold, averaged over competitions: `(len(thresholds),)`.

    Source: Agarwal et al. 2021, section 4.2 (score distributions).
    """
    bars = np.asarray(thresholds, dtype=float)
    shares = [(np.asarray(trials, dtype=float)[:, None] > bars).mean(axis=0) for trials in scores.values()]
    profile: Array = np.mean(shares, axis=0)
    return profile


def succeeded(improvement: float | None, error: float | None = None) -> bool:
    """Whether a trial closes more than 5 % of the gap to the human, and by more than its noise.

    The lower end of the improvement's one-sided 95 % interval, `improvement - 1.645 error`, must be above
    5 %. So work that is exactly 5 % of the gap better than the baseline counts as a success in at most 5 %
    of trials, and the unmodified baseline more rarely still.

    Args:
        improvement: The improvement on test; a trial without a score, None, does not succeed.
        error: Its standard error; None if it is not known, in which case the estimate alone decides.
    """
    return improvement is not None and improvement - CONFIDENCE * (error or 0.0) > SUCCESS


def pass_at_k(trials: int, successes: int, k: int) -> float:
    """The chance that at least one of k trials, drawn without replacement, succeeds; unbiased.

    `1 - C(trials - successes, k) / C(trials, k)`. Source: Chen et al. 2021 (arXiv 2107.03374),
    equation 1; MLRC-Bench, section 4, with 8 trials.

    Raises:
        ValueError: The numbers do not fit together.
    """
    if not (0 <= successes <= trials and 1 <= k <= trials):
        raise ValueError(f"of {trials} trials {successes} cannot have succeeded, or {k} cannot be drawn")
    return 1.0 - math.comb(trials - successes, k) / math.comb(trials, k)


def pass_at_k_of_ideas(successes: Sequence[int], trials: int, ideas: int, k: int) -> float:
    """The chance of a success when some of all ideas are drawn, and k trials of each of them.

    `1 - sum over subsets of prod C(trials - c_i, k) / (C(n, ideas) * C(trials, k)^ideas)`.
    Source: MLRC-Bench, section 4, with 4 ideas of 8 trials.

    Args:
        successes: Number of successful trials of each idea.
        trials: Number of trials of each idea.
        ideas: Number of ideas that are drawn.
        k: Number of trials that are drawn of each such idea.
    """
    if not 1 <= ideas <= len(successes):
        raise ValueError(f"of {len(successes)} ideas {ideas} cannot be drawn")
    misses = [1.0 - pass_at_k(trials, count, k) for count in successes]
    subsets = list(itertools.combinations(misses, ideas))
    return 1.0 - sum(math.prod(subset) for subset in subsets) / len(subsets)


def capability_level(dev: float | None, test: float | None) -> int:
    """How far a trial got, from 1 to 7.

    1: no evaluation on dev. 2: no score on test. 3: better than the baseline on neither split.
    4: better on dev only. 5: up to 5 % of the way to the human, or within 0.1 % of the way from
    the baseline. 6: up to the human. 7: beyond the human. Source: MLRC-Bench's repository; there the
    tolerance around the baseline is an absolute 0.001 in each competition's own unit.

    Args:
        dev: Best improvement on dev; None without a valid evaluation.
        test: Improvement on test; None without a score.
    """
    if dev is None:
        return 1
    if test is None:
        return 2
    if test > 1.0:
        return 7
    if test >= SUCCESS:
        return 6
    if test > -_NEAR_BASELINE:
        return 5
    return 4 if dev > 0 else 3


def padded_mean(curves: Sequence[Sequence[float]]) -> list[float]:
    """The mean over trials at each evaluation; a shorter trial continues with its last value.

    Source: MLRC-Bench, figure on refinement. Trials without any evaluation are left out.
    """
    evaluated = [curve for curve in curves if curve]
    longest = max(map(len, evaluated), default=0)
    return [float(np.mean([curve[min(i, len(curve) - 1)] for curve in evaluated])) for i in range(longest)]


def _ranks(numbers: Sequence[float] | Array) -> Array:
    """Ranks from 0, where equal numbers share their mean rank: `(len(numbers),)`."""
    _, place, count = np.unique(np.asarray(numbers, dtype=float), return_inverse=True, return_counts=True)
    shared: Array = (np.cumsum(count) - (count + 1) / 2)[place]
    return shared


def spearman(left: Sequence[float] | Array, right: Sequence[float] | Array) -> float:
    """Spearman's rank correlation: Pearson's correlation of the ranks, ties at their mean rank.

    Args:
        left: At least two numbers, not all equal.
        right: As many numbers, not all equal.
    """
    return float(np.corrcoef(_ranks(left), _ranks(right))[0, 1])
