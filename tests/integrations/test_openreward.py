"""OpenReward: its own client plays; attackers with sockets do not succeed."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("openreward.environments")

import mlrcbench
from mlrcbench.integrations import openreward
from mlrcbench.integrations.serving.episodes import SessionTable
from tests.integrations.attacker import CONTROL, NONSENSE, Served, abandoned, answer_to, free_port, until

SESSIONS, IDLE = 3, 4.0
TOKEN = "the training program's secret"
KEY = {"X-API-Key": TOKEN}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of few episodes, with a short idle limit and a token."""
    folder, port = tmp_path_factory.mktemp("openreward"), free_port()
    command = ["openreward", "_template", "--port", str(port), "--records", str(folder / "records")]
    limits = ["--sessions", str(SESSIONS), "--idle", str(IDLE), "--tasks", "5"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLRCBENCH_TOKEN", TOKEN)
        served = Served([*command, *limits], folder / "tmp", port, "the host")
    sid = _create(served)  # loads what a server needs once and keeps
    assert "evaluation" in _call(served, sid, "evaluate")[-1]
    _post(served, "/delete", sid)
    until(lambda: _all_ended(served))
    yield served
    served.stop()


@pytest.fixture
def client(server: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The environment in OpenReward's client."""
    monkeypatch.setenv("OPENREWARD_DISABLE_UPDATE_CHECK", "1")
    from openreward import OpenReward

    with OpenReward(api_key=TOKEN) as openreward_client:
        yield openreward_client.environments.get("_template", base_url=f"http://127.0.0.1:{server.port}")


def _all_ended(server: Served) -> bool:
    return all(one["ended"] for one in server.request("GET", "/control/episodes", token=CONTROL)[1])


def _post(server: Served, path: str, sid: str, body: Any = None) -> tuple[int, Any]:
    return server.request("POST", path, body, **KEY, **{"X-Session-ID": sid})


def _create(server: Served, sid: str = "warm", instance: Any = 0) -> str:
    status, answer = _post(server, "/create", sid, {"task_spec": {"instance": instance}})
    assert status == 200, answer
    return sid


def _call(server: Served, sid: str, name: str, **arguments: Any) -> list[str]:
    """The events of a call."""
    status, text = _post(server, "/_template/call", sid, {"name": name, "input": arguments})
    assert status == 200, text
    return [line for line in str(text).splitlines() if line]


def test_a_client_plays_an_episode(client: Any) -> None:
    """Splits share no instance; each answer has its reward, and the last one the score on test."""
    assert client.list_splits() == ["train", "test"]
    assert client.num_tasks("train") == 5
    specs = [one.task_spec for split in ("train", "test") for one in client.list_tasks(split)]
    assert len({one["instance"] for one in specs}) == 10
    tools = {one.name: one.input_schema for one in client.list_tools()}
    assert tools == {one["name"]: one["parameters"] for one in mlrcbench.tool_specs()}
    with client.session(split="train", index=2) as session:
        assert "hidden line" in session.get_prompt()[0].text
        assert "method.py" in session.call_tool("run", {"command": "ls"}).blocks[0].text
        dev = session.call_tool("evaluate", {})
        assert (dev.metadata["score"]["outcome"], dev.metadata["test_score"]) == ("scored", None)
        assert session.call_tool("evaluate", {"split": "test"}).metadata["is_error"]
        end = session.call_tool("submit", {})
        assert (end.finished, end.metadata["terminated"]) == (True, True)
        assert end.reward == end.metadata["test_score"]["improvement"]
        with pytest.raises(Exception, match="episode has finished"):
            session.call_tool("run", {"command": "ls"})


def test_sessions_do_not_see_each_other(client: Any, server: Served) -> None:
    """Neither sees the other's files; the same task gives both the same instance."""
    task = client.get_task("test", 1)
    with client.session(task) as one, client.session(task) as two:
        one.call_tool("write_file", {"path": "mine.txt", "text": "1"})
        assert "mine.txt" in one.call_tool("run", {"command": "ls"}).blocks[0].text
        assert "mine.txt" not in two.call_tool("run", {"command": "ls"}).blocks[0].text
        sums = [one.call_tool("run", {"command": "sha1sum data/*"}).blocks[0].text[:40] for one in (one, two)]
        assert sums[0] == sums[1]
    until(lambda: _all_ended(server))


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_the_clients_token_does_not_open_the_operators_side(server: Served, method: str) -> None:
    """No token does not either, and the operator's token does not open the clients' side."""
    for token in (TOKEN, "", "x"):
        assert server.request(method, "/control/episodes", token=token)[0] == 401
    for path in ("/create", "/create_session", "/_template/call", "/_template/prompt", "/list_environments"):
        assert server.request(method, path, {}, token=CONTROL)[0] == 401
        assert server.request(method, path, {}, **{"X-API-Key": "x"})[0] == 401


def test_other_machines_need_a_token() -> None:
    """The application does not start without one."""
    table = SessionTable(lambda: mlrcbench.make("_template"))
    with pytest.raises(mlrcbench.MlrcbenchError, match="needs a token"):
        openreward.http_app(table, CONTROL, competition="_template", loopback=False)


def test_a_session_is_deleted_during_a_command(server: Served) -> None:
    """The command ends with it, whether or not its client is still connected."""
    before = server.holds()
    sid = _create(server, "middle")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    body = json.dumps({"name": "run", "input": {"command": "sleep 1000"}})
    headers = {**KEY, "X-Session-ID": sid, "Content-Type": "application/json"}
    connection.request("POST", "/_template/call", body, headers)
    assert b"task_id" in connection.getresponse().read(20)
    connection.close()
    assert not _all_ended(server)
    assert _post(server, "/delete", sid)[0] == 200
    until(lambda: _all_ended(server))
    until(lambda: server.holds_at_most(before))


def test_an_idle_one_is_ended_and_a_working_one_is_not(server: Served) -> None:
    """A call that takes longer than the idle limit gets its answer."""
    idle, working = _create(server, "idle"), _create(server, "working")
    assert "finished" in "".join(_call(server, working, "run", command=f"sleep {2 * IDLE}; echo finished"))
    assert "the episode is over" in "".join(_call(server, idle, "run", command="ls"))
    for sid in (idle, working):
        _post(server, "/delete", sid)
    until(lambda: _all_ended(server))


def test_nonsense_is_answered_and_leaves_nothing(server: Served) -> None:
    """Malformed, cut, too large and too many messages; afterwards the server holds no more, and answers."""
    before = server.holds()
    with abandoned(server, 30, b"POST /create HTTP/1.1\r\nHost: local"):
        for data in NONSENSE:
            answer_to(server, data)
        for body in (
            b"",
            b"{",
            b"[]",
            b"null",
            b"[" * 100_000,
            {"name": 1},
            {"split": "train", "index": 1 << 80},
        ):
            for path in (
                "/create",
                "/_template/call",
                "/_template/task",
                "/nothing/task",
                "/_template/tasks",
            ):
                assert 300 < _post(server, path, "nonsense", body)[0] < 500
        head = f"POST /create HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {TOKEN}\r\n"
        assert b" 413 " in answer_to(server, f"{head}Content-Length: 6000000\r\n\r\n".encode())
        instances: list[Any] = [-1, 1 << 70, "x", None, True, [], 1.5]
        for instance in instances:
            assert _post(server, "/create", "x", {"task_spec": {"instance": instance}})[0] == 400
        toolset = {"task_spec": {"instance": 0}, "toolset_name": "claude-code"}
        assert _post(server, "/create", "tools", toolset)[0] == 400
    sid = _create(server, "after")
    assert "error" in "".join(_call(server, sid, "run", command=[1], self="x"))
    assert "not a valid tool" in "".join(_call(server, sid, "teardown"))
    _post(server, "/delete", sid)
    until(lambda: _all_ended(server))
    until(lambda: server.holds_at_most(before))


def test_two_hundred_sessions_opened_and_abandoned(server: Served) -> None:
    """No more than the limits allow begin, the others are told; after them, clients find room again."""
    before = server.holds()
    statuses = set()
    for number in range(200):
        sid = _create(server, f"abandoned-{number}")
        if number % 10 == 0:
            statuses.add(server.request("GET", "/_template/prompt", **KEY, **{"X-Session-ID": sid})[0])
    assert statuses == {200, 503}
    until(lambda: _all_ended(server))
    sid = _create(server, "room")
    assert "finished" in "".join(_call(server, sid, "submit"))
    _post(server, "/delete", sid)
    until(lambda: _all_ended(server))
    until(lambda: server.holds_at_most(before))
