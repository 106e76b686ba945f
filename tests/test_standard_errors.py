"""Standard errors, compared with what fresh items really do."""

from __future__ import annotations

import numpy as np
import pytest

from mlrcbench.aggregates import error_of_mean, jackknife


def test_the_error_of_a_mean_is_that_of_the_textbook() -> None:
    """The sample's standard deviation over the root of the number of items, however they are shaped."""
    assert error_of_mean([1.0, 2.0, 3.0, 6.0]) == pytest.approx(np.std([1, 2, 3, 6], ddof=1) / 2)
    assert error_of_mean(np.array([[1, 2], [3, 6]])) == error_of_mean([1.0, 2.0, 3.0, 6.0])
    assert error_of_mean([True, True]) == 0.0


def test_differences_between_groups_are_no_noise() -> None:
    """Groups are not drawn again, so only what differs within them counts, by their weights."""
    assert error_of_mean([1.0, 1.0], [9.0, 9.0]) == 0.0
    one, two = [0.0, 2.0], [0.0, 4.0, 8.0]
    expected = np.hypot(2 / 5 * 1.0, 3 / 5 * 4 / 3**0.5)
    assert error_of_mean(one, two) == pytest.approx(expected)
    assert error_of_mean(one, two, weights=[1.0, 0.5]) == pytest.approx(np.hypot(1.0, 0.5 * 4 / 3**0.5))


def test_left_out_means_give_the_error_of_the_mean() -> None:
    """For a mean the jackknife is exact."""
    values = np.random.default_rng(0).exponential(size=30)
    left_out = (values.sum() - values) / 29
    assert jackknife(left_out) == pytest.approx(error_of_mean(values))


@pytest.mark.parametrize("groups", [100, 20])
def test_the_jackknife_is_as_large_as_what_fresh_items_do(groups: int) -> None:
    """For a ratio of sums, also if groups of items are left out together."""
    rng = np.random.default_rng(1)

    def ratio(pairs: np.ndarray) -> float:
        return float(pairs[:, 0].sum() / pairs.sum())

    values, errors = [], []
    for _ in range(400):
        pairs = rng.exponential(1.0, (100, 2)) * rng.exponential(1.0, (100, 1))
        values.append(ratio(pairs))
        number = np.arange(100) % groups
        errors.append(jackknife([ratio(pairs[number != out]) for out in range(groups)]) or 0.0)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values, ddof=1), rel=0.1)


def test_nothing_is_invented() -> None:
    """One item does not tell how items differ, and a number too large for a float has no error."""
    assert error_of_mean() is None
    assert error_of_mean([1.0]) is None
    assert error_of_mean([1.0, 2.0], [3.0]) is None
    assert jackknife([1.0]) is None
    assert jackknife([]) is None
    assert error_of_mean([1e300, -1e300]) is None
    assert jackknife([np.inf, 1.0]) is None
    assert jackknife([np.nan, 1.0]) is None
