"""TRL: the methods describe the actions; its own trainer plays, scores and learns."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.integrations.trl import ActionEnvironment, environment, rows

EXAMPLE = Path(__file__).parents[2] / "examples" / "integrations" / "trl_grpo.py"


@pytest.fixture
def env(tmp_path: Path) -> Iterator[ActionEnvironment]:
    """An environment as TRL makes it."""
    made = environment("_template", sandbox="process", records=tmp_path, instances=2)()  # type: ignore[call-arg]
    yield made
    made._session.close()


def test_a_methods_schema_is_the_tools() -> None:
    """The schema is derived by transformers from signature, hints and docstring."""
    schemas = pytest.importorskip("transformers.utils")
    cls = environment("_template")
    for spec in mlrcbench.tool_specs():
        derived = schemas.get_json_schema(getattr(cls, spec["name"]))["function"]
        assert derived["description"] == spec["description"]
        derived["parameters"]["properties"].pop("self", None)
        assert set(derived["parameters"]["properties"]) == set(spec["parameters"]["properties"])
        for name, expected in spec["parameters"]["properties"].items():
            argument = derived["parameters"]["properties"][name]
            assert argument["description"] == expected["description"]
            assert argument.get("enum") == expected.get("enum")
            assert [argument["type"], *(["null"] if argument.get("nullable") else [])] == (
                expected["type"] if isinstance(expected["type"], list) else [expected["type"]]
            )


def test_every_public_method_is_an_action(env: ActionEnvironment) -> None:
    """A model can call every public method, except for the two that TRL itself calls."""
    public = {name for name in dir(type(env)) if not name.startswith("_")}
    assert public - {"reset", "get_reward"} == {spec["name"] for spec in mlrcbench.tool_specs()}


def test_an_episode_after_the_other(env: ActionEnvironment) -> None:
    """A row's instance is played; the reward is read when the model is done; then another begins."""
    method = mlrcbench.get_competition("_template").overlay("reference")["method.py"]
    first, second = rows(range(2))
    assert "## Actions" in env.reset(**first)
    assert "replaced" in env.write_file(path="method.py", text=method)  # type: ignore[attr-defined]
    assert "error" in env._session.call("run", {}).text
    assert env.get_reward() == pytest.approx(1.0, abs=0.1)
    assert env.get_reward() == env._session.reward
    env.reset(**second)
    assert env.get_reward() == pytest.approx(0.0, abs=0.2)
    assert env._session.env.record is not None


def test_a_failure_of_the_infrastructure_is_no_reward(
    env: ActionEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model reads that the episode is over; asking for the reward raises the error."""
    env.reset()

    def fail(*_: object) -> None:
        raise mlrcbench.SandboxError("gone")

    monkeypatch.setattr(env._session.env, "step", fail)
    assert "infrastructure" in env.run("true")  # type: ignore[attr-defined]
    with pytest.raises(mlrcbench.SandboxError, match="gone"):
        env.get_reward()
    monkeypatch.undo()
    env.reset()
    assert env.get_reward() == pytest.approx(0.0, abs=0.2)


def test_a_dropped_environment_is_cleaned_up(tmp_path: Path) -> None:
    """The workspace is removed with the environment, which nobody closes."""
    made = environment("_template", sandbox="process", records=tmp_path)()  # type: ignore[call-arg]
    made.reset()
    folder = made._session.env._keeper._folder.path
    assert folder.exists()
    del made
    gc.collect()
    assert not folder.exists()


def test_the_trainer_plays_and_learns() -> None:
    """Its own loop makes three calls in each rollout, none fails, rewards differ, weights change."""
    pytest.importorskip("trl")
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rewards = [float(one) for one in re.findall(r"reward (\S+) ±", done.stdout)]
    assert len(rewards) == 2
    assert rewards == pytest.approx([0.5, 0.5], abs=0.1)
