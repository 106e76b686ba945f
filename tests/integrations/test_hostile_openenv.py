"""OpenEnv with hostile agents and failing hosts: nothing is lost, and nothing unscored has a reward."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openenv.core.env_server.http_server")

from openenv.core.generic_client import GenericEnvClient

from mlrcbench.integrations import openenv
from mlrcbench.integrations.serving.episodes import SessionTable
from tests.integrations.hostile import VALUES, calls, served, strange_table


@pytest.fixture
def table(tmp_path: Path) -> SessionTable:
    """Strange episodes."""
    return strange_table(tmp_path)


@pytest.fixture
def client(table: SessionTable) -> Iterator[Any]:
    """OpenEnv's client of a server of these."""
    with (
        served(openenv.http_app(table, "control"), table) as port,
        GenericEnvClient(base_url=f"http://127.0.0.1:{port}").sync() as connected,
    ):
        yield connected


def test_the_final_reward_comes_whatever_the_score_says(client: Any) -> None:
    """Reasons that are no Unicode and details that are no numbers reach the client in a plain form."""
    client.reset(seed=0)
    dev = client.step({"action": "evaluate"})
    assert dev.observation["score"]["reason"] == "caf? ?"
    end = client.step({"action": "submit"})
    assert (end.done, end.reward) == (True, end.observation["test_score"]["improvement"])
    assert end.observation["test_score"]["details"] == {"part": None}


def test_nonsense_is_an_observation(client: Any, table: SessionTable, tmp_path: Path) -> None:
    """No message of an agent is an exception in the client, or ends the episode, which has a record."""
    client.reset(seed=0)
    forms: list[Any] = [{"bogus": 1}, {}, {"action": None}, {"action": "run", "metadata": 5}]
    forms += [{"action": value} for value in VALUES]
    forms += [{**arguments, "action": name} for name, arguments in calls(1, 40)]
    for form in forms:
        answer = client.step(form)
        assert answer.observation["text"]
        assert not answer.done
    assert "error" in client.step({"bogus": 1}).observation["text"]
    assert client.step({"action": "submit"}).done
    (summary,) = table.summaries()
    assert (summary["ended"], summary["failure"]) == ("done", "")
    (record,) = tmp_path.rglob("record.jsonl")
    assert '"submitted"' in record.read_text().splitlines()[-1]


def test_a_failure_of_the_host_is_no_reward(client: Any, table: SessionTable) -> None:
    """The client gets an exception, again at each further step, until it resets."""
    client.reset(seed=0)
    for command in ("break", "ls"):
        with pytest.raises(RuntimeError, match="no score: the disk is"):
            client.step({"action": "run", "command": command})
    (summary,) = table.summaries()
    assert (summary["test_score"], summary["failure"][:8]) == (None, "the disk")
    client.reset(seed=1)
    assert client.step({"action": "submit"}).reward is not None


def test_an_episode_that_the_server_ended_has_no_reward(client: Any, table: SessionTable) -> None:
    """None is not a reward of 0."""
    client.reset(seed=0)
    table.get(table.summaries()[0]["id"]).end("ended by a test")  # type: ignore[union-attr]
    answer = client.step({"action": "run", "command": "ls"})
    assert (answer.done, answer.reward) == (True, None)


def test_messages_that_are_no_json(client: Any) -> None:
    """What OpenEnv could not read becomes a step that is answered with an error."""
    for text in (
        '{"type": "step", "data": [1]}',
        "[" * 5_000,
        "{",
        '{"type": "step", "data": {"action": 1' + "0" * 5_000 + "}}",
        "",
    ):
        message = json.loads(openenv._readable(text))
        assert message["type"] == "step"
        assert isinstance(message["data"], dict)
    assert json.loads(openenv._readable('{"type": "reset", "data": {}}')) == {"type": "reset", "data": {}}
