"""TRL: the methods say what the actions say; its own trainer plays, scores and learns."""

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
def made(tmp_path: Path) -> Iterator[ActionEnvironment]:
    """An environment as TRL makes one."""
    one = environment("_template", sandbox="process", records=tmp_path, instances=2)()  # type: ignore[call-arg]
    yield one
    one._session.close()


def test_a_methods_schema_is_the_tools() -> None:
    """As transformers derives it from signature, hints and docstring."""
    schemas = pytest.importorskip("transformers.utils")
    cls = environment("_template")
    for spec in mlrcbench.tool_specs():
        found = schemas.get_json_schema(getattr(cls, spec["name"]))["function"]
        assert found["description"] == spec["description"]
        found["parameters"]["properties"].pop("self", None)
        assert set(found["parameters"]["properties"]) == set(spec["parameters"]["properties"])
        for name, told in spec["parameters"]["properties"].items():
            got = found["parameters"]["properties"][name]
            assert got["description"] == told["description"]
            assert got.get("enum") == told.get("enum")
            assert [got["type"], *(["null"] if got.get("nullable") else [])] == (
                told["type"] if isinstance(told["type"], list) else [told["type"]]
            )


def test_every_public_method_is_an_action(made: ActionEnvironment) -> None:
    """But the two that TRL itself calls: whatever is public, a model can call."""
    public = {name for name in dir(type(made)) if not name.startswith("_")}
    assert public - {"reset", "get_reward"} == {spec["name"] for spec in mlrcbench.tool_specs()}


def test_an_episode_after_the_other(made: ActionEnvironment) -> None:
    """A row's instance is played; the reward is asked for once the model is silent; then it starts anew."""
    method = mlrcbench.get_competition("_template").overlay("reference")["method.py"]
    first, second = rows(range(2))
    assert "## Actions" in made.reset(**first)
    assert "replaced" in made.write_file(path="method.py", text=method)  # type: ignore[attr-defined]
    assert "error" in made._session.call("run", {}).text
    assert made.get_reward() == pytest.approx(1.0, abs=0.1)
    assert made.get_reward() == made._session.reward
    made.reset(**second)
    assert made.get_reward() == pytest.approx(0.0, abs=0.2)
    assert made._session.env.record is not None


def test_a_failure_of_the_infrastructure_is_no_reward(
    made: ActionEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is told that it is over; who asks for the reward gets the error."""
    made.reset()

    def fail(*_: object) -> None:
        raise mlrcbench.SandboxError("gone")

    monkeypatch.setattr(made._session.env, "step", fail)
    assert "infrastructure" in made.run("true")  # type: ignore[attr-defined]
    with pytest.raises(mlrcbench.SandboxError, match="gone"):
        made.get_reward()
    monkeypatch.undo()
    made.reset()
    assert made.get_reward() == pytest.approx(0.0, abs=0.2)


def test_what_is_dropped_is_cleaned_up(tmp_path: Path) -> None:
    """The workspace goes with the environment, which nobody closes."""
    one = environment("_template", sandbox="process", records=tmp_path)()  # type: ignore[call-arg]
    one.reset()
    folder = one._session.env._folder.path
    assert folder.exists()
    del one
    gc.collect()
    assert not folder.exists()


def test_the_trainer_plays_and_learns() -> None:
    """Its own loop makes three calls in each rollout, none fails, rewards differ, weights move."""
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
