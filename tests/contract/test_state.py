"""The promise of saved states: an episode can be continued elsewhere, and replayed."""

from __future__ import annotations

from pathlib import Path

import mlrcbench
from mlrcbench import Evaluate, Submit

SECRET = "contract"


def test_a_saved_state_scores_as_its_original(tmp_path: Path) -> None:
    """The score on test is the same to the last digit, and the record can be replayed."""
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
