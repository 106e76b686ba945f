"""SkyRL: its own registry makes our environment, and its own interface plays it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("skyrl_gym")

import skyrl_gym

import mlrcbench
from mlrcbench.integrations.skyrl import ENVIRONMENT, rows

METHOD = mlrcbench.get_competition("_template").overlay("reference")["method.py"]


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    skyrl_gym.register(id=ENVIRONMENT, entry_point="mlrcbench.integrations.skyrl:ResearchTextEnv")


def _reply(**action: Any) -> str:
    return f"I think this helps.\n\n```action\n{json.dumps(action)}\n```\nWe will see."


def test_a_model_that_writes_text_plays_an_episode(tmp_path: Path) -> None:
    """Prose around an action does no harm, a reply without one is answered, and the end has the reward."""
    (row,) = rows("_template", [1], records=str(tmp_path))
    env = skyrl_gym.make(row["env_class"], env_config={"reward": "sparse"}, extras=row)
    prompt, info = env.init(row["prompt"])
    assert [message["role"] for message in prompt] == ["system", "user"]
    assert "Root mean squared error" in prompt[1]["content"]
    assert info["instance"] == 1
    replies = [
        "no idea",
        _reply(action="write_file", path="method.py", text=METHOD),
        _reply(action="evaluate"),
    ]
    outputs = [env.step(reply) for reply in [*replies, _reply(action="submit")]]
    assert "error" in outputs[0]["observations"][0]["content"]
    assert "replaced 'method.py'" in outputs[1]["observations"][0]["content"]
    assert [one["done"] for one in outputs] == [False, False, False, True]
    assert outputs[-1]["observations"] == []
    assert outputs[-1]["reward"] == pytest.approx(1.0, abs=0.1)
    assert env.get_metrics() == {"return": pytest.approx(1.0, abs=0.1), "valid": 1.0}
    env.close()
