"""Rewards: both schemes have the same return, and invalid options are refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlrcbench.env.reward import Reward
from mlrcbench.errors import RegistryError
from mlrcbench.score import Score

gains = st.floats(-5, 5)


@given(st.lists(gains, max_size=6), gains | st.none(), st.none() | st.just((-1.0, 1.0)))
def test_both_rewards_sum_to_the_same_return(
    dev: list[float], test: float | None, clip: tuple[float, float] | None
) -> None:
    """Shaping moves reward in time and does not change the return."""
    final = Score.invalid("x") if test is None else Score(value=1.0, improvement=test)
    best = [max([0.0, *dev[:n]]) for n in range(len(dev) + 1)]
    totals = []
    for scheme in ("sparse", "shaped"):
        reward = Reward(scheme, clip)
        steps = [reward.potential(b) - reward.potential(a) for a, b in itertools.pairwise(best)]
        assert all(step >= 0.0 for step in steps)
        totals.append(sum(steps) + reward.final(final, best[-1]))
    assert totals[0] == pytest.approx(totals[1])
    bounds = clip or (-5.0, 5.0)
    assert totals[0] == pytest.approx(0.0 if test is None else min(max(test, bounds[0]), bounds[1]))


def test_rewards_that_make_no_sense_are_refused() -> None:
    """An unknown scheme is refused, and a clip that does not include the baseline."""
    with pytest.raises(RegistryError, match="Did you mean 'shaped'"):
        Reward("shapd")  # type: ignore[arg-type]
    with pytest.raises(RegistryError, match="must include 0"):
        Reward("sparse", (0.5, 1.0))
