"""OpenReward with hostile agents and failing hosts: nothing is lost, and nothing unscored has a reward."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openreward.environments")

from mlrcbench.integrations import openreward
from mlrcbench.integrations.serving.episodes import SessionTable
from tests.integrations.hostile import VALUES, calls, served, strange_table

pytestmark = pytest.mark.filterwarnings("default")  # warnings of OpenReward's client are not ours to fix


@pytest.fixture
def table(tmp_path: Path) -> SessionTable:
    """Strange episodes."""
    return strange_table(tmp_path)


@pytest.fixture
def client(table: SessionTable, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The environment in OpenReward's client of a server of these."""
    monkeypatch.setenv("OPENREWARD_DISABLE_UPDATE_CHECK", "1")
    from openreward import OpenReward

    app = openreward.http_app(table, "control", competition="_template")
    with served(app, table) as port, OpenReward(api_key="none") as connected:
        yield connected.environments.get("_template", base_url=f"http://127.0.0.1:{port}")


def test_the_final_reward_comes_whatever_was_sent_before(
    client: Any, table: SessionTable, tmp_path: Path
) -> None:
    """Reasons that are no Unicode reach the client in a plain form; nonsense ends no episode."""
    with client.session(split="train", index=0) as session:
        arguments = [{"command": value, "text": value} for value in VALUES]
        names = {tool.name for tool in client.list_tools()}
        sent = [("run", one) for one in arguments] + [one for one in calls(2, 30) if one[0] in names]
        for name, one in sent:
            answer = session.call_tool(name, one)
            assert answer.blocks[0].text
            assert not answer.finished
        end = session.call_tool("submit", {})
        assert (end.finished, end.reward) == (True, end.metadata["test_score"]["improvement"])
        assert end.metadata["test_score"]["reason"] == "caf? ?"
    (summary,) = table.summaries()
    assert (summary["ended"], summary["failure"]) == ("done", "")
    (record,) = tmp_path.rglob("record.jsonl")
    assert '"submitted"' in record.read_text().splitlines()[-1]


def test_a_failure_of_the_host_is_no_reward(client: Any, table: SessionTable) -> None:
    """The client gets an exception."""
    with client.session(split="train", index=0) as session:
        for command in ("break", "ls"):
            with pytest.raises(Exception, match="no score: the disk is"):
                session.call_tool("run", {"command": command})
    assert table.summaries()[0]["failure"].startswith("the disk")


@pytest.mark.parametrize("toolset", ["web", "backsearch", "bash", "anything", "", 1])
def test_no_toolset_but_ours(table: SessionTable, toolset: object) -> None:
    """A session that asks for OpenReward's own tools does not begin, whether or not they exist."""
    with served(openreward.http_app(table, "control", competition="_template"), table) as port:
        for field in ({"toolset_name": toolset}, {}):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            body = {"task_spec": {"instance": 0}, **field}
            headers = {"X-Session-ID": "one", "Content-Type": "application/json"}
            connection.request("POST", "/create", json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            connection.close()
            if field:
                assert (answer.status, "no toolsets" in text) == (400, True), text
                assert table.summaries() == []
            else:
                assert answer.status == 200
