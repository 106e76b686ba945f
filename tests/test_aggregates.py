"""Statistics over many scores: calculated by hand, by their properties, and the paper's own figures."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlrcbench.aggregates import (
    bootstrap,
    capability_level,
    interquartile_mean,
    mean_of_all,
    mean_of_best,
    padded_mean,
    pass_at_k,
    pass_at_k_of_ideas,
    performance_profile,
    relative_cost,
    relative_gain,
    succeeded,
)
from mlrcbench.cli import main
from mlrcbench.runs.paper import paper_table, read_paper

SCORES = {"a": [0.0, 0.2, 0.4, 0.6], "b": [-1.0, 0.1, 0.3, 5.0]}


def test_gains_and_costs_by_hand() -> None:
    """A rise from -2 to -1 is a gain of a half; dividing by -2 would make it a loss."""
    assert relative_gain(-1.0, -2.0) == 0.5
    assert relative_gain(0.15, 0.10) == pytest.approx(0.5)
    assert relative_cost(30.0, 20.0) == 0.5
    with pytest.raises(ValueError, match="baseline of 0"):
        relative_gain(1.0, 0.0)
    with pytest.raises(ValueError, match="above 0"):
        relative_cost(1.0, 0.0)


def test_means_by_hand() -> None:
    """Best 0.6 and 5; means 0.3 and 1.1; the middle four of eight are 0.1, 0.2, 0.3, 0.4 less the ends."""
    assert mean_of_best(SCORES) == pytest.approx(2.8)
    assert mean_of_all(SCORES) == pytest.approx(0.7)
    assert interquartile_mean(SCORES) == pytest.approx((0.1 + 0.2 + 0.3 + 0.4) / 4)
    # Of six values 1.5 are cut at each end: half of the second and of the fifth, and all between.
    assert interquartile_mean({"a": [0, 1, 2, 3, 4, 50]}) == pytest.approx((0.5 + 2 + 3 + 2) / 3)
    assert interquartile_mean({"a": [7.0]}) == 7.0


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=20), st.floats(1e3, 1e9))
def test_one_wild_trial_does_not_move_the_interquartile_mean_far(trials: list[float], wild: float) -> None:
    """However large it is, the result stays within the range of the others; the plain mean does not."""
    assert -1 <= interquartile_mean({"a": [*trials, wild]}) <= 1
    assert mean_of_all({"a": [*trials, wild]}) > 1


@settings(max_examples=10)
@given(st.integers(0, 5))
def test_the_bootstrap_interval_holds_its_estimate_and_can_be_repeated(seed: int) -> None:
    """Equal seeds give equal intervals; equal trials give no width; more trials make it narrower."""
    interval = bootstrap(SCORES, mean_of_all, resamples=200, seed=seed)
    assert interval.lower <= interval.value <= interval.upper
    assert interval == bootstrap(SCORES, mean_of_all, resamples=200, seed=seed)
    flat = bootstrap({"a": [0.5] * 4, "b": [1.5] * 4}, mean_of_all, resamples=50, seed=seed)
    assert (flat.lower, flat.upper) == (1.0, 1.0)
    more = bootstrap({name: trials * 25 for name, trials in SCORES.items()}, mean_of_all, resamples=200)
    assert more.upper - more.lower < interval.upper - interval.lower


def test_the_bootstrap_draws_within_competitions() -> None:
    """Draws from all trials would mix 0 and 1 and give a width; draws within competitions do not."""
    interval = bootstrap({"a": [0.0, 0.0], "b": [1.0, 1.0]}, mean_of_all, resamples=100)
    assert (interval.lower, interval.value, interval.upper) == (0.5, 0.5, 0.5)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Of 200 samples of 20 normal trials, 80 % intervals hold the mean in 66 to 90 % of cases."""
    random = np.random.default_rng(1)
    covered = 0
    for number in range(200):
        interval = bootstrap(
            {"a": list(random.normal(size=20))}, mean_of_all, level=0.8, resamples=200, seed=number
        )
        covered += interval.lower <= 0.0 <= interval.upper
    assert 0.66 < covered / 200 < 0.90


def test_the_profile_by_hand() -> None:
    """Above 0: 3 of 4 and 3 of 4; above 0.5: 1 of 4 and 1 of 4; above 5: none."""
    assert performance_profile(SCORES, [0.0, 0.5, 5.0]).tolist() == [0.75, 0.25, 0.0]


def test_pass_at_k_is_the_papers() -> None:
    """Table 5: 2, 3 and 5 successes of 16 trials for backdoor-trigger, k = 1, 4, 8, 12, 16."""
    printed = {
        2: (0.12, 0.45, 0.77, 0.95, 1.00),
        3: (0.19, 0.61, 0.90, 0.99, 1.00),
        5: (0.31, 0.82, 0.99, 1.00, 1.00),  # the paper has 1.00 at k = 8, where the formula has 0.987
    }
    for successes, row in printed.items():
        for k, value in zip((1, 4, 8, 12, 16), row, strict=True):
            assert pass_at_k(16, successes, k) == pytest.approx(value, abs=0.0051)
    with pytest.raises(ValueError, match="cannot"):
        pass_at_k(8, 9, 1)


@given(st.integers(1, 7), st.data())
def test_pass_at_k_counts_subsets(trials: int, data: st.DataObject) -> None:
    """The estimate is the share of all k-subsets that hold a success; with one idea both estimators agree."""
    successes, k = data.draw(st.integers(0, trials)), data.draw(st.integers(1, trials))
    outcomes = [i < successes for i in range(trials)]
    subsets = list(combinations(outcomes, k))
    assert pass_at_k(trials, successes, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))
    assert pass_at_k_of_ideas([successes], trials, 1, k) == pytest.approx(pass_at_k(trials, successes, k))


def test_pass_at_k_of_ideas_by_hand() -> None:
    """One idea of two always succeeds: one draw of two meets it, and so does every draw of both."""
    assert pass_at_k_of_ideas([8, 0], 8, 1, 1) == 0.5
    assert pass_at_k_of_ideas([8, 0], 8, 2, 1) == 1.0
    # Ideas with 2 and 1 of 4: both miss in (2/4) * (3/4).
    assert pass_at_k_of_ideas([2, 1], 4, 2, 1) == pytest.approx(1 - 3 / 8)
    with pytest.raises(ValueError, match="ideas"):
        pass_at_k_of_ideas([1], 4, 2, 1)


@pytest.mark.parametrize(
    ("dev", "test", "level"),
    [
        (None, None, 1),
        (None, 0.5, 1),
        (0.2, None, 2),
        (-0.2, -0.3, 3),
        (0.2, -0.3, 4),
        (0.2, 0.0, 5),
        (-0.2, -0.0005, 5),
        (0.2, 0.049, 5),
        (0.2, 0.05, 6),
        (0.2, 1.0, 6),
        (0.2, 1.01, 7),
    ],
)
def test_capability_levels(dev: float | None, test: float | None, level: int) -> None:
    """Each level follows from its definition, also at its edges."""
    assert capability_level(dev, test) == level


def test_success_and_curves() -> None:
    """Success is more than 5 % of the way; short trials continue with their last value."""
    assert [succeeded(value) for value in (None, -1.0, 0.05, 0.0501)] == [False, False, False, True]
    assert [succeeded(0.2, error) for error in (None, 0.0, 0.091, 0.092)] == [True, True, True, False]
    assert not succeeded(None, 0.1)
    assert padded_mean([[1.0, 3.0], [5.0], []]) == [3.0, 4.0]
    assert padded_mean([]) == []


@pytest.mark.parametrize("error", [0.05, 0.2, 0.8])
def test_chance_rarely_succeeds(error: float) -> None:
    """Work at the threshold succeeds in 5 % of trials, the baseline more rarely; good work still does."""
    draws = error * np.random.default_rng(0).standard_normal(20_000)

    def rate(truth: float) -> float:
        return float(np.mean([succeeded(truth + draw, error) for draw in draws]))

    assert rate(0.05) == pytest.approx(0.05, abs=0.005)
    assert rate(0.0) < rate(0.05)
    assert rate(0.05 + 3 * error) > 0.85


def test_the_papers_averages_follow_from_its_rows() -> None:
    """9.3, 7.1, 6.3, 5.4, 4.2, 3.5 and -5.2 percent, to the printed digit."""
    paper = read_paper()
    assert len(paper.improvements) == 7
    for agent, printed in paper.printed_means.items():
        assert paper.mean(agent) == pytest.approx(printed, abs=0.00051), agent
    assert np.mean(list(paper.human_gains.values())) == pytest.approx(2.807, abs=0.0006)


def test_the_papers_human_gains_follow_from_its_anchors() -> None:
    """(human - baseline) / baseline, to the printed digits of both."""
    paper = read_paper()
    assert set(paper.anchors) == set(paper.human_gains)
    for name, (baseline, human) in paper.anchors.items():
        assert relative_gain(human, baseline) == pytest.approx(paper.human_gains[name], rel=0.01), name


def test_a_single_competition_decides_the_papers_order_but_not_the_robust_one() -> None:
    """One -94.7 puts the agent last that closes the most of backdoor-trigger; the middle half does not."""
    paper = read_paper()
    by_mean = sorted(paper.improvements, key=paper.mean)
    by_robust = sorted(paper.improvements, key=paper.robust_mean)
    assert by_mean[0] == "MLAB, claude-3.5-sonnet-v2"
    assert by_robust[0] != by_mean[0]


def test_the_command_prints_the_papers_table(capsys: pytest.CaptureFixture[str]) -> None:
    """The best agent comes first, and both means are printed."""
    assert main(["report", "--paper"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == paper_table().splitlines()
    assert lines[1].startswith("MLAB, gemini-exp-1206")
    assert lines[1].split()[-2] == "9.3"
    assert math.isclose(float(lines[-1].split()[-1]), 280.7, abs_tol=0.1)
