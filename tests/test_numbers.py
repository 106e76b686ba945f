"""Budgets, metrics, rewards, scores, observations: worked by hand."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlrcbench.budget import Budget, Left, Meter
from mlrcbench.card import Anchor, Anchors
from mlrcbench.errors import CardError, RegistryError, SubmissionError
from mlrcbench.metrics import better, improvement, logical_lines
from mlrcbench.observation import Observation, coarse_seconds, cut, join_output, tree
from mlrcbench.reward import Reward
from mlrcbench.score import Score

HIGHER = Anchors(Anchor(20.0, 0.0, ""), Anchor(80.0, 0.0, ""), "human")
LOWER = Anchors(Anchor(4.0, 0.0, ""), Anchor(1.0, 0.0, ""), "human")
gains = st.floats(-5, 5)


@pytest.mark.parametrize(
    ("value", "anchors", "expected"),
    [
        (20.0, HIGHER, 0.0),
        (80.0, HIGHER, 1.0),
        (35.0, HIGHER, 0.25),
        (-40.0, HIGHER, -1.0),
        (4.0, LOWER, 0.0),
        (1.0, LOWER, 1.0),
        (7.0, LOWER, -1.0),
        (-0.5, LOWER, 1.5),
    ],
)
def test_improvement_is_the_closed_part_of_the_gap(value: float, anchors: Anchors, expected: float) -> None:
    """Whichever way is better, 0 is the baseline and 1 the human."""
    assert improvement(value, anchors) == expected


def test_better_knows_the_direction() -> None:
    """Strictly better only."""
    assert better(2.0, 1.0, "maximize")
    assert better(1.0, 2.0, "minimize")
    assert not better(1.0, 1.0, "maximize")


def test_logical_lines_leave_documentation_out() -> None:
    """Statements count, docstrings, comments and layout do not; broken files count lines."""
    source = '"""Module."""\n\n# comment\ndef f(x):\n    """Doc."""\n    y = (\n        x)\n    return y\n'
    assert logical_lines([source]) == 3
    assert logical_lines([source, "a = 1; b = 2"]) == 5
    assert logical_lines(["def broken(:\n\n  x"]) == 2
    for bomb in ("(" * 100_000, "-" * 100_000 + "1", "x" + ".a" * 50_000, "\0", "a;" * 200_000):
        assert logical_lines([bomb]) >= 0


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_meter_tells_what_is_left_and_why_it_ended() -> None:
    """Steps and seconds end an episode; seconds are told in hundredths, rounded up."""
    clock = _Clock()
    meter = Meter(Budget(steps=2, seconds=1000.0, evaluations=1), clock)
    assert meter.left == Left(2, 1000.0, 1)
    clock.now += 0.4
    assert meter.left.seconds == 1000.0
    clock.now += 10.0
    assert meter.left.seconds == 990.0
    meter.evaluations += 1
    assert (meter.left.evaluations, meter.spent) == (0, None)
    meter.steps += 2
    assert meter.spent == "steps"
    meter.steps = 1
    clock.now += 1000.0
    assert (meter.spent, meter.seconds_left) == ("seconds", 0.0)


def test_a_budget_is_overridden_in_parts() -> None:
    """By name; anything else is refused."""
    budget = Budget(5, 60.0, 2)
    assert budget.override({"steps": 7}) == Budget(7, 60.0, 2)
    assert budget.override(None) == budget
    assert budget.override(Budget(1, 1.0, 0)) == Budget(1, 1.0, 0)
    for wrong in ({"step": 7}, {"steps": 7.5}, {"steps": True}, {"steps": 0}):
        with pytest.raises(CardError):
            budget.override(wrong)


@given(st.lists(gains, max_size=6), gains | st.none(), st.none() | st.just((-1.0, 1.0)))
def test_both_rewards_sum_to_the_same_return(
    dev: list[float], test: float | None, clip: tuple[float, float] | None
) -> None:
    """Shaping moves reward in time and changes no return."""
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
    """An unknown scheme; a clip without the baseline in it."""
    with pytest.raises(RegistryError, match="Did you mean 'shaped'"):
        Reward("shapd")  # type: ignore[arg-type]
    with pytest.raises(RegistryError, match="hold 0"):
        Reward("sparse", (0.5, 1.0))


def test_a_score_has_a_value_if_and_only_if_it_is_valid() -> None:
    """And survives its JSON form."""
    score = Score(value=1.5, details={"a": 2.0}, split="dev", improvement=0.3)
    assert Score.from_json({**score.to_json(), "later": 1}) == score
    assert not Score.invalid("why").valid
    with pytest.raises(ValueError, match="if and only if"):
        Score(value=None)
    with pytest.raises(ValueError, match="if and only if"):
        Score(value=1.0, outcome="invalid")
    with pytest.raises(SubmissionError, match="huge"):
        Score(value=float("inf"))


def test_an_observation_ends_with_what_is_left() -> None:
    """Body first, then one status line with everything that depends on the clock."""
    seen = Observation("done", Left(3, 600.0, 1), best=0.25, seconds=3.2)
    assert seen.text == "done\n[under 5 s; left: 3 steps, 1 evaluation, 10 min; best on dev: +25.0 %]"
    assert coarse_seconds(1e6) == "over 3600 s"


@given(st.text(max_size=300), st.integers(20, 100))
def test_a_cut_keeps_head_and_tail(text: str, limit: int) -> None:
    """Short texts stay; of long ones both ends do."""
    shown = cut(text, limit)
    if len(text) <= limit:
        assert shown == text
    else:
        assert shown.startswith(text[: limit // 2])
        assert shown.endswith(text[-(limit // 2) :])
        assert "characters left out" in shown


def test_output_says_what_is_missing_and_where_it_is() -> None:
    """Head, count, file, tail."""
    assert join_output(b"a\xff", b"b", 0, None) == "a\ufffdb"
    assert "[... 7 bytes left out; the whole output is in outputs/1.txt ...]" in join_output(
        b"a", b"b", 7, "outputs/1.txt"
    )
    assert tree(["b", "a", "c"], limit=2) == "a\nb\n... and 1 more"


def test_lines_are_counted_in_many_threads_at_once() -> None:
    """Environments in threads evaluate at the same time; each gets the same count."""
    source = "\n".join(f"def f{i}(x):\n    return [x + {i}, (x, [x, {{'a': x}}])]" for i in range(400))
    with ThreadPoolExecutor(8) as pool:
        counts = set(pool.map(logical_lines, [[source]] * 64))
    assert counts == {800}
