"""An episode at its edges: ties, what an evaluation keeps, and the end of the time."""

from __future__ import annotations

from pathlib import Path

import pytest

import mlrcbench
from mlrcbench import Evaluate, Run, Submit, WriteFile
from mlrcbench.env.episode import observation_of
from tests.conftest import body
from tests.env.test_research_env import BETTER, PERFECT, WORSE, make


def _scored_on_test(env: mlrcbench.ResearchEnv) -> str:
    """The method that was scored on test."""
    assert env.record is not None
    (folder,) = (env.record / "evaluations").glob("*-test")
    return (folder / "workspace" / "method.py").read_text("utf-8")


def test_of_equals_on_dev_the_later_evaluation_is_scored(env: mlrcbench.ResearchEnv) -> None:
    """As in the paper's protocol: later work that scores the same replaces earlier work."""
    for name in ("first", "second"):
        env.step(WriteFile("method.py", f"# {name}\n{BETTER}"))
        env.step(Evaluate())
    env.step(WriteFile("method.py", f"# worse\n{WORSE}"))
    env.step(Evaluate())
    env.step(Submit())
    assert _scored_on_test(env).startswith("# second\n")


def test_a_better_evaluation_replaces_a_worse_one(env: mlrcbench.ResearchEnv) -> None:
    """Whichever comes first; the template's metric is better when it is lower."""
    for text in (WORSE, PERFECT, BETTER):
        env.step(WriteFile("method.py", text))
        env.step(Evaluate())
    env.step(Submit())
    assert _scored_on_test(env) == PERFECT


def test_what_an_evaluation_keeps_holds_no_view(env: mlrcbench.ResearchEnv) -> None:
    """Data, inputs and long outputs belong to the instance and the record; a kept link would lead there."""
    body(env, Run("seq 1 50000; mkdir -p inputs artefacts; echo planted > artefacts/predictions.npy"))
    assert env.record is not None
    env.step(Evaluate())
    env.step(Submit())
    kept = sorted((env.record / "evaluations").glob("*/workspace"))
    assert len(kept) == 2
    for folder in kept:
        names = {path.name for path in folder.iterdir()}
        assert {"main.py", "method.py", "statement.md"} <= names
        assert names.isdisjoint({"data", "inputs", "outputs", "artefacts"})
        assert not any(path.is_symlink() for path in folder.rglob("*"))


def test_a_command_is_stopped_when_the_time_is_up(tmp_path: Path) -> None:
    """However long it was allowed to take, and its output so far is shown."""
    with make(tmp_path, budget={"seconds": 2.0}) as env:
        env.reset(seed=0)
        text = body(env, Run("echo begun; sleep 6; echo outlasted", timeout=30))
        assert "begun" in text
        assert "stopped: it reached" in text
        assert "outlasted" not in text


@pytest.mark.parametrize(("timeout", "words"), [(0.3, "stopped: it reached"), (30.0, "[exit status 0]")])
def test_the_shortest_limit_counts(timeout: float, words: str, env: mlrcbench.ResearchEnv) -> None:
    """A command's own, if it is below what is left."""
    assert words in body(env, Run("sleep 2", timeout=timeout))


def test_a_text_that_was_cut_is_not_cut_again(tmp_path: Path) -> None:
    """What an agent reads after a restore is what it read before; a longer text from elsewhere is cut."""
    with make(tmp_path) as env:
        env.reset(seed=0)
        episode = env._keeper.require()
        episode._say("x" * 300_000, info={})
        shown = episode.observe()
        assert "200,000 characters left out" in shown.body
        env.restore(env.snapshot())
        assert env.observation is not None
        assert env.observation.body == shown.body
        state = episode.state.copy(body="x" * 300_000, aside="y" * 300_000)
        foreign = observation_of(state, episode.meter)
        assert len(foreign.body) < 101_000
        assert len(foreign.aside) < 21_000
