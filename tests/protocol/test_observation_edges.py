"""Observations at their edges: durations, counts, listings, and output that was left out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mlrcbench.protocol.meter import Left
from mlrcbench.protocol.observation import Observation, coarse_seconds, join_output, tree

BOUNDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)


def test_a_duration_is_below_the_next_bound() -> None:
    """A bound itself is not below it."""
    assert coarse_seconds(0.0) == "under 1 s"
    for bound, following in itertools.pairwise(BOUNDS):
        assert coarse_seconds(bound - 0.001) == f"under {bound} s"
        assert coarse_seconds(bound) == f"under {following} s"
    assert coarse_seconds(3599.9) == "under 3600 s"
    assert coarse_seconds(3600) == "over 3600 s"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0 s"), (119.0, "119 s"), (120.0, "2 min"), (150.1, "3 min"), (3600.0, "60 min")],
)
def test_the_time_left_is_in_minutes_from_two_on(seconds: float, words: str) -> None:
    """Below that, in seconds."""
    assert Observation("", Left(2, seconds, 2), 0.0).status == (
        f"[left: 2 steps, 2 evaluations, {words}; best on dev: +0.0 %]"
    )


def test_one_is_not_several() -> None:
    """Zero takes the plural."""
    assert "left: 1 step, 0 evaluations," in Observation("", Left(1, 9.0, 0), 0.0).status
    assert "left: 0 steps, 1 evaluation," in Observation("", Left(0, 9.0, 1), 0.0).status


def test_an_aside_lies_between_body_and_status() -> None:
    """Without one, nothing stands between them."""
    left = Left(1, 9.0, 1)
    status = "[under 1 s; left: 1 step, 1 evaluation, 9 s; best on dev: -12.5 %]"
    assert Observation("body", left, -0.125, 0.5).text == f"body\n{status}"
    assert Observation("body", left, -0.125, 0.5, "aside").text == f"body\naside\n{status}"


def test_numbers_of_an_observation_are_arrays_of_one() -> None:
    """Of the types that the space names."""
    space = Observation("body", Left(3, 9.5, 2), 0.25).to_space()
    expected = {"steps_left": (3, np.int64), "evaluations_left": (2, np.int64),
                "seconds_left": (9.5, np.float64), "best_improvement": (0.25, np.float64)}  # fmt: skip
    for name, (value, dtype) in expected.items():
        assert (space[name].tolist(), space[name].dtype, space[name].shape) == ([value], dtype, (1,))


def test_a_listing_has_two_hundred_lines() -> None:
    """Of one path more, that it is there."""
    paths = [f"{number:03d}" for number in range(201)]
    assert tree(paths[:200]) == "\n".join(paths[:200])
    assert tree(paths[::-1]) == "\n".join([*paths[:200], "... and 1 more"])
    assert tree([]) == ""


def test_output_is_whole_or_says_what_is_missing() -> None:
    """Bytes that are split between head and tail still make a character, if nothing was left out."""
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert join_output(first, second, 0, "log.txt") == "é"
    assert join_output(b"a", b"b", 1, None) == "a\n[... 1 bytes left out ...]\nb"
