"""Scores: valid or not, and their JSON form."""

from __future__ import annotations

import json

import pytest

from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score


def test_a_score_has_a_value_if_and_only_if_it_is_valid() -> None:
    """Its JSON form is read back as an equal score."""
    score = Score(value=1.5, details={"a": 2.0}, split="dev", improvement=0.3)
    assert Score.from_json({**score.to_json(), "later": 1}) == score
    assert not Score.invalid("why").valid
    with pytest.raises(ValueError, match="if and only if"):
        Score(value=None)
    with pytest.raises(ValueError, match="if and only if"):
        Score(value=1.0, outcome="invalid")
    with pytest.raises(SubmissionError, match="huge"):
        Score(value=float("inf"))


@pytest.mark.parametrize("name", ["error", "improvement_error"])
def test_an_error_is_a_finite_number_from_0_or_missing(name: str) -> None:
    """Scores that were stored without standard errors have none; no record can claim a negative one."""
    score = Score.from_json({"value": 1.5, "improvement": 0.3, name: 0.0})
    stored = score.to_json()
    assert Score.from_json(stored) == score
    assert score.summary()[name] == 0.0
    del stored[name]
    assert getattr(Score.from_json(stored), name) is None
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="standard error"):
            Score.from_json({**stored, name: wrong})


def test_a_reason_can_be_shown_and_stored_anywhere() -> None:
    """It may quote a file's name: bytes of no character, escapes of a terminal, marks of direction."""
    raw = "name a\udcff\x1b]0;title\x07\r\u202e é\n\ud800"
    score = Score.invalid(raw)
    assert score.reason == "name a\\udcff\\x1b]0;title\\x07\\r\\u202e é\n\\ud800"
    json.dumps(score.to_json(), ensure_ascii=False).encode("utf-8")
    assert Score.from_json(score.to_json()) == score
    long = Score.invalid("x" * 100_000)
    assert len(long.reason) < 5_000
    assert Score.from_json(long.to_json()) == long
