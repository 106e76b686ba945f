"""What state as a value promises for every competition: an episode can be told again, and gone on from."""

from __future__ import annotations

from pathlib import Path

import pytest

import mlrcbench
from mlrcbench import Evaluate, Submit
from mlrcbench.agents import play
from mlrcbench.agents.named import make_agent
from mlrcbench.competition import Competition

SECRET = "contract"

# The shipped ones take a baseline's evaluation on each split, twice.
COMPETITIONS = [
    pytest.param(
        mlrcbench.get_competition(card.id), id=card.id, marks=[] if card.hidden else pytest.mark.slow
    )
    for card in mlrcbench.list_competitions(hidden=True)
]


@pytest.mark.parametrize("competition", COMPETITIONS)
def test_an_episode_replays_without_a_difference(competition: Competition, tmp_path: Path) -> None:
    """The same actions give the same observations, rewards and scores, letter by letter."""
    overlay = "reference" if competition.card.hidden else "baseline"
    with mlrcbench.make(competition, secret=SECRET, records=tmp_path) as env:
        play(env, make_agent(overlay, competition), seed=0)
        assert env.record is not None
        found = mlrcbench.replay(env.record, secret=SECRET, records=tmp_path)
    assert found.difference is None


def test_a_saved_state_scores_as_its_original(tmp_path: Path) -> None:
    """The same score on test to the last digit, and a record that replays."""
    competition = mlrcbench.get_competition("_template")
    with mlrcbench.make(competition, secret=SECRET, records=tmp_path) as env:
        env.reset(seed=0)
        for path, text in sorted(competition.overlay("reference").items()):
            env.step(mlrcbench.WriteFile(path, text))
        env.step(Evaluate())
        env.snapshot().save(tmp_path / "saved")
        _, reward, *_, info = env.step(Submit())
        env.restore(mlrcbench.load_snapshot(tmp_path / "saved"))
        _, again, *_, later = env.step(Submit())
        assert env.record is not None
        assert mlrcbench.replay(env.record, secret=SECRET, records=tmp_path).difference is None
    assert (again, later["test_score"]) == (reward, info["test_score"])
