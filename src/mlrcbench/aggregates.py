"""Arithmetic over many scores: what a table of agents and competitions may say, and how surely.

An improvement is a score's `improvement`: 0 the baseline, 1 the top human entry (the paper prints
percent). It is unbounded, so that a single bad run can decide a plain mean. The paper's figures
are here as it defines them; beside each stands one that a single run cannot move: the
interquartile mean with a stratified bootstrap interval, and the performance profile, both after
Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(NeurIPS 2021, arXiv 2108.13264).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# The paper's bar for a trial that succeeds: this share of the human's gain over the baseline.
SUCCESS = 0.05
_NEAR_BASELINE = 1e-3

Array = npt.NDArray[np.float64]
Scores = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        value: Of the scores as they are.
        lower: End of the interval.
        upper: Likewise.
        level: Share of intervals that hold the truth, for example 0.95.
    """

    value: float
    lower: float
    upper: float
    level: float


def relative_gain(value: float, baseline: float) -> float:
    """Gain over the baseline as a share of its size: `(value - baseline) / |baseline|`.

    Source: MLRC-Bench, appendix (there in percent). The size is taken without its sign, so that a
    larger value is a gain for a negative baseline too.

    Raises:
        ValueError: The baseline is 0, which has no size.
    """
    if baseline == 0:
        raise ValueError("a gain relative to a baseline of 0 is not defined; use the improvement instead")
    return (value - baseline) / abs(baseline)


def relative_cost(value: float, baseline: float) -> float:
    """Runtime or code size beyond the baseline's, as a share of it: `(value - baseline) / baseline`.

    Source: MLRC-Bench, section 3, efficiency and simplicity (there in percent).

    Args:
        value: Seconds, or logical lines.
        baseline: In the same unit, measured on the same machine; above 0.
    """
    if baseline <= 0:
        raise ValueError(f"a baseline's cost is above 0, not {baseline}")
    return (value - baseline) / baseline


def mean_of_best(scores: Scores) -> float:
    """The paper's headline: best trial per competition, then the plain mean over competitions.

    Args:
        scores: For each competition the improvements of its trials.
    """
    return float(np.mean([max(trials) for trials in scores.values()]))


def mean_of_all(scores: Scores) -> float:
    """Mean over trials per competition, then the plain mean over competitions."""
    return float(np.mean([np.mean(trials) for trials in scores.values()]))


def interquartile_mean(scores: Scores) -> float:
    """Mean of the middle half of all trials, pooled: a quarter is cut off at each end.

    Source: Agarwal et al. 2021, section 4.3. Where a quarter of n trials is no whole number,
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
    """A percentile interval by stratified bootstrap: trials are drawn anew within each competition.

    Source: Agarwal et al. 2021, section 4.1. The same seed gives the same interval.

    Args:
        scores: For each competition the improvements of its trials.
        statistic: Of such scores.
        level: Of the interval.
        resamples: How often trials are drawn.
        seed: Of the draws.
    """
    random = np.random.default_rng(seed)
    arrays = {name: np.asarray(trials, dtype=float) for name, trials in scores.items()}
    drawn = [
        statistic({name: list(random.choice(trials, len(trials))) for name, trials in arrays.items()})
        for _ in range(resamples)
    ]
    lower, upper = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(statistic(scores), float(lower), float(upper), level)


def performance_profile(scores: Scores, thresholds: Sequence[float]) -> Array:
    """Share of trials above each threshold, averaged over competitions: `(len(thresholds),)`.

    Source: Agarwal et al. 2021, section 4.2 (score distributions).
    """
    bars = np.asarray(thresholds, dtype=float)
    shares = [(np.asarray(trials, dtype=float)[:, None] > bars).mean(axis=0) for trials in scores.values()]
    profile: Array = np.mean(shares, axis=0)
    return profile


def succeeded(improvement: float | None) -> bool:
    """Whether a trial closes more than 5 % of the gap to the human; one without a score does not."""
    return improvement is not None and improvement > SUCCESS


def pass_at_k(trials: int, successes: int, k: int) -> float:
    """Chance that of k trials, drawn without replacement, at least one succeeds; unbiased.

    `1 - C(trials - successes, k) / C(trials, k)`. Source: Chen et al. 2021 (arXiv 2107.03374),
    equation 1; MLRC-Bench, section 4, with 8 trials.

    Raises:
        ValueError: The numbers do not fit together.
    """
    if not (0 <= successes <= trials and 1 <= k <= trials):
        raise ValueError(f"of {trials} trials {successes} cannot have succeeded, or {k} cannot be drawn")
    return 1.0 - math.comb(trials - successes, k) / math.comb(trials, k)


def pass_at_k_of_ideas(successes: Sequence[int], trials: int, ideas: int, k: int) -> float:
    """Chance that k trials of each of some ideas, ideas drawn from all, hold a success.

    `1 - sum over subsets of prod C(trials - c_i, k) / (C(n, ideas) * C(trials, k)^ideas)`.
    Source: MLRC-Bench, section 4, with 4 ideas of 8 trials.

    Args:
        successes: Of each idea.
        trials: Of each idea.
        ideas: How many are drawn.
        k: Trials drawn of each.
    """
    if not 1 <= ideas <= len(successes):
        raise ValueError(f"of {len(successes)} ideas {ideas} cannot be drawn")
    misses = [1.0 - pass_at_k(trials, count, k) for count in successes]
    subsets = list(itertools.combinations(misses, ideas))
    return 1.0 - sum(math.prod(subset) for subset in subsets) / len(subsets)


def capability_level(dev: float | None, test: float | None) -> int:
    """How far a trial got, from 1 to 7.

    1: no evaluation on dev. 2: no score on test. 3: better than the baseline on neither split.
    4: on dev only. 5: up to 5 % of the way to the human, or within 0.1 % of the way from the
    baseline. 6: up to the human. 7: beyond. Source: MLRC-Bench's repository; there the
    tolerance around the baseline is an absolute 0.001 in each competition's own unit.

    Args:
        dev: Best improvement on dev; None if there was no valid evaluation.
        test: Improvement on test; None if there was none.
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
    """Mean over trials at each evaluation; a shorter trial goes on with its last value.

    Source: MLRC-Bench, figure on refinement. Trials without any evaluation are left out.
    """
    told = [list(curve) for curve in curves if curve]
    longest = max((len(curve) for curve in told), default=0)
    return [float(np.mean([curve[min(i, len(curve) - 1)] for curve in told])) for i in range(longest)]


def _ranks(numbers: Sequence[float] | Array) -> Array:
    """Ranks from 0; equal numbers share the mean of theirs: `(len(numbers),)`."""
    _, place, count = np.unique(np.asarray(numbers, dtype=float), return_inverse=True, return_counts=True)
    shared: Array = (np.cumsum(count) - (count + 1) / 2)[place]
    return shared


def spearman(left: Sequence[float] | Array, right: Sequence[float] | Array) -> float:
    """Spearman's rank correlation: Pearson's of the ranks, ties at their mean rank.

    Args:
        left: Numbers, at least two, not all equal.
        right: Likewise, as many.
    """
    return float(np.corrcoef(_ranks(left), _ranks(right))[0, 1])
