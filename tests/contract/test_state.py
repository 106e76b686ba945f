"""What state as a value promises for every competition: an episode can be told again, and gone on from."""

from __future__ import annotations

from pathlib import Path

import pytest

import mlrcbench
from mlrcbench import Evaluate, Submit
from mlrcbench.agents import play
from mlrcbench.agents.scripted import make_agent
from mlrcbench.competition import Competition

SECRET = "contract"

COMPETITIONS = [mlrcbench.get_competition(card.id) for card in mlrcbench.list_competitions(hidden=True)]
# The shipped ones take a baseline's evaluation on each split, several times.
EACH = pytest.mark.parametrize(
    "competition",
    [pytest.param(one, id=one.id, marks=[] if one.card.hidden else pytest.mark.slow) for one in COMPETITIONS],
)


@EACH
def test_an_episode_replays_without_a_difference(competition: Competition, tmp_path: Path) -> None:
    """The same actions give the same observations, rewards and scores, letter by letter."""
    overlay = "reference" if competition.card.hidden else "baseline"
    with mlrcbench.make(competition, secret=SECRET, records=tmp_path) as env:
        play(env, make_agent(overlay, competition), seed=0)
        assert env.record is not None
        found = mlrcbench.replay(env.record, secret=SECRET, records=tmp_path)
    assert found.difference is None


@EACH
def test_a_fork_scores_as_its_parent(competition: Competition, tmp_path: Path) -> None:
    """Through a saved file as well: the same score on test to the last digit."""
    overlay = competition.overlay("reference" if competition.card.hidden else "baseline")
    with mlrcbench.make(competition, secret=SECRET, records=tmp_path) as env:
        env.reset(seed=0)
        for path, text in sorted(overlay.items()):
            env.step(mlrcbench.WriteFile(path, text))
        env.step(Evaluate())
        env.snapshot().save(tmp_path / "saved")
        _, reward, *_, info = env.step(Submit())
        env.restore(mlrcbench.load_snapshot(tmp_path / "saved"))
        _, again, *_, later = env.step(Submit())
    assert (again, later["test_score"]) == (reward, info["test_score"])
