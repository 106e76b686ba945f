"""Observations: their text, and how output is shown in them."""

from __future__ import annotations

from mlrcbench.protocol.meter import Left
from mlrcbench.protocol.observation import Observation, coarse_seconds, join_output, tree


def test_an_observation_ends_with_what_is_left() -> None:
    """The body comes first, then a status line with everything that depends on the clock."""
    observation = Observation("done", Left(3, 600.0, 1), best=0.25, seconds=3.2)
    assert observation.text == "done\n[under 5 s; left: 3 steps, 1 evaluation, 10 min; best on dev: +25.0 %]"
    assert coarse_seconds(1e6) == "over 3600 s"


def test_output_says_what_is_missing_and_where_it_is() -> None:
    """It consists of the head, the number of bytes left out, the file, and the tail."""
    assert join_output(b"a\xff", b"b", 0, None) == "a\ufffdb"
    assert "[... 7 bytes left out; the whole output is in outputs/1.txt ...]" in join_output(
        b"a", b"b", 7, "outputs/1.txt"
    )
    assert tree(["b", "a", "c"], limit=2) == "a\nb\n... and 1 more"
