"""MCP: clients of either major version of the SDK play episodes; attackers with sockets do not succeed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

import mlrcbench
from mlrcbench.integrations.mcp_server import STATEMENT
from tests.integrations.attacker import (
    CONTROL,
    NONSENSE,
    Served,
    abandoned,
    answer_to,
    free_port,
    until,
    websocket,
)

SESSIONS = 3
IDLE = 3.0


def _call(name: str, **arguments: Any) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": name, "arguments": arguments},
    }


def _text(answer: Any) -> str:
    return str(answer["result"]["content"][0]["text"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of few episodes, with a short idle limit."""
    folder, port = tmp_path_factory.mktemp("mcp"), free_port()
    command = ["mcp", "_template", "--http", str(port), "--sessions", str(SESSIONS), "--idle", str(IDLE)]
    served = Served(
        [*command, "--episodes", "0", "--records", str(folder / "records")], folder / "tmp", port, "the host"
    )
    made = served.request("POST", "/control/episodes", token=CONTROL)[1]
    served.request("POST", "/mcp", _call("evaluate"), made["token"])  # loads what is needed once and kept
    served.request("DELETE", f"/control/episodes/{made['id']}", token=CONTROL)
    yield served
    served.stop()


@pytest.fixture
def episode(server: Served) -> Iterator[dict[str, str]]:
    """An episode that the host opens and ends."""
    status, made = server.request("POST", "/control/episodes", token=CONTROL)
    assert status == 201
    yield made
    server.request("DELETE", f"/control/episodes/{made['id']}", token=CONTROL)


async def _play(session: Any) -> list[Any]:
    """Use a server as any client does: initialise, list tools, make valid and invalid calls, to the end."""
    about = await session.initialize()
    assert "hidden line" in about.instructions
    assert len(about.instructions) <= 2_000
    assert "`briefing`" in about.instructions
    (content,) = (await session.read_resource(STATEMENT)).contents
    assert content.text == mlrcbench.get_competition("_template").statement
    listed = (await session.list_tools()).tools
    schemas = [json.loads(one.model_dump_json(by_alias=True, exclude_none=True)) for one in listed]
    assert all(one["title"] and not one["annotations"]["openWorldHint"] for one in schemas)
    assert {one["name"] for one in schemas if one["annotations"]["readOnlyHint"]} == {
        "briefing",
        "last_answer",
        "read_file",
        "wait_job",
    }
    assert [one["name"] for one in schemas[:2]] == ["briefing", "last_answer"]
    del schemas[:2]
    tools = [{key: one[key] for key in ("name", "description", "inputSchema")} for one in schemas]
    specs = mlrcbench.tool_specs()
    assert [one["name"] for one in tools] == [one["name"] for one in specs]
    assert [one["inputSchema"]["required"] for one in tools] == [
        one["parameters"]["required"] for one in specs
    ]
    calls: list[tuple[str, dict[str, Any]]] = [
        ("last_answer", {}),
        ("briefing", {}),
        ("run", {"command": "head -c 5; read x; echo it ended"}),
        ("last_answer", {}),
        ("run", {"speed": 1}),
        ("dance", {}),
        ("submit", {}),
        ("run", {"command": "true"}),
    ]
    return [await session.call_tool(name, arguments) for name, arguments in calls]


def _check_play(results: list[Any]) -> None:
    dumped = [json.loads(one.model_dump_json(by_alias=True)) for one in results]
    none, briefing, read, again, bad, unknown, submitted, late = [one["content"][0]["text"] for one in dumped]
    assert "nothing has been called yet" in none
    limit = "20 s of CPU time (60 s by the clock) for an evaluation"
    assert all(part in briefing for part in ("Root mean squared error", limit, "20 steps"))
    assert "JSON object" not in briefing, "the actions are tools"
    assert again == read
    assert "it ended" in read, "a command that reads its input gets its end, not the protocol's bytes"
    assert "no argument 'speed'" in bad
    assert "unknown action 'dance'" in unknown
    assert "submitted" in submitted
    assert "the episode is over" in late
    assert [one["isError"] for one in dumped] == [True, False, False, False, True, True, False, True]
    assert dumped[6]["_meta"]["mlrcbench/step"]["terminated"]
    assert "test_score" not in json.dumps(dumped)


def test_a_client_plays_an_episode_over_stdio(tmp_path: Path) -> None:
    """It needs nothing but the SDK's own client."""
    command = ["-m", "mlrcbench", "mcp", "_template", "--records", str(tmp_path)]
    started = StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))

    async def main() -> list[Any]:
        async with stdio_client(started) as streams, ClientSession(*streams) as session:
            return await _play(session)

    _check_play(anyio.run(main))


def test_it_ends_with_its_client_in_the_middle_of_a_command(tmp_path: Path) -> None:
    """It survives broken and cut messages; at the end of its input it ends, and its command with it."""
    command = [sys.executable, "-m", "mlrcbench", "mcp", "_template", "--records", str(tmp_path)]
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
    lines: list[str] = [
        json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}),
        json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        "{]",
        "[" * 10_000,
        json.dumps(_call("run", command="touch begun; sleep 1000")),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write("".join(f"{line}\n" for line in lines) + '{"jsonrpc": "2.0", "id": 7, "meth')
        process.stdin.flush()
        until(lambda: any(tmp_path.iterdir()))
        process.stdin.close()
        assert process.wait(60) == 0
    (record,) = tmp_path.iterdir()
    until(lambda: "ending" in (record / "record.jsonl").read_text())


def test_a_client_plays_an_episode_over_http(server: Served, episode: dict[str, str]) -> None:
    """The address ends with the episode's token."""
    url = f"http://127.0.0.1:{server.port}/mcp/{episode['token']}"

    async def main() -> list[Any]:
        async with streamable_http_client(url) as streams, ClientSession(streams[0], streams[1]) as session:
            return await _play(session)

    _check_play(anyio.run(main))
    status, summary = server.request("GET", f"/control/episodes/{episode['id']}", token=CONTROL)
    assert (status, summary["done"], summary["calls"]) == (200, True, 4)
    assert summary["test_score"]["outcome"] == "scored"
    assert (Path(summary["record"]) / "record.jsonl").exists()


def test_two_episodes_do_not_see_each_other(server: Served, episode: dict[str, str]) -> None:
    """Neither sees the other's files or learns of it."""
    _, other = server.request("POST", "/control/episodes", token=CONTROL)
    written = _call("write_file", path="mine.txt", text="1")
    server.request("POST", "/mcp", written, episode["token"])
    _, one = server.request("POST", "/mcp", _call("run", command="ls"), episode["token"])
    _, two = server.request("POST", "/mcp", _call("run", command="ls"), other["token"])
    assert "mine.txt" in _text(one)
    assert "mine.txt" not in _text(two)
    server.request("DELETE", f"/control/episodes/{other['id']}", token=CONTROL)
    _, gone = server.request("POST", "/mcp", _call("run", command="ls"), other["token"])
    assert "the episode is over" in _text(gone)
    _, still = server.request("POST", "/mcp", _call("run", command="ls"), episode["token"])
    assert "mine.txt" in _text(still)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_agents_token_opens_nothing_else(server: Served, episode: dict[str, str], method: str) -> None:
    """It does not open the host's side, and the host's token is not an agent's."""
    for path in (
        "/control/episodes",
        f"/control/episodes/{episode['id']}",
        "/control/",
        "/control/episodes/x",
    ):
        for token in (episode["token"], "", "x", "the host's secre"):
            assert server.request(method, path, token=token)[0] == 401
    assert server.request("POST", "/mcp", _call("run", command="ls"), CONTROL)[0] == 401
    assert server.request("POST", "/mcp", _call("run", command="ls"))[0] == 401
    assert server.request("POST", "/reset", {}, episode["token"])[0] == 404
    if method != "POST":
        assert server.request(method, "/mcp", token=episode["token"])[0] == 405, "no stream is held open"
    for path in ("/mcp", "/control/episodes"):
        with pytest.raises(OSError, match=r" 40[135] "):
            websocket(server, path, token=episode["token"])


def test_no_tool_begins_again_or_evaluates_test(server: Served, episode: dict[str, str]) -> None:
    """Methods and tools that a server might have do not exist, and no answer shows test before the end."""
    for name in ("reset", "restore", "begin", "snapshot", "close", "__init__", "evaluate_test"):
        _, answer = server.request("POST", "/mcp", _call(name), episode["token"])
        assert "unknown action" in _text(answer)
    _, answer = server.request("POST", "/mcp", _call("evaluate", split="test"), episode["token"])
    assert "no argument 'split'" in _text(answer)
    for method in ("reset", "prompts/list", "completion/complete", "logging/setLevel"):
        _, answer = server.request(
            "POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": method}, episode["token"]
        )
        assert "error" in answer
    _, summary = server.request("GET", f"/control/episodes/{episode['id']}", token=CONTROL)
    assert summary["test_score"] is None


def test_web_pages_and_other_names_are_refused(server: Served, episode: dict[str, str]) -> None:
    """A browser sends its page's origin; another name that leads here is not one of this machine's."""
    call = _call("run", command="ls")
    assert server.request("POST", "/mcp", call, episode["token"], Origin="http://evil.example")[0] == 403
    assert server.request("POST", "/mcp", call, episode["token"], Host="evil.example")[0] == 403


def test_nonsense_is_answered_and_leaves_nothing(server: Served, episode: dict[str, str]) -> None:
    """Malformed, cut and too large messages; afterwards the server holds no more, and answers."""
    before = server.holds()
    bodies = [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"jsonrpc": "2.0"}', b"\xff\xfe"]
    with abandoned(server, 30, b"POST /mcp HTTP/1.1\r\nHost: local"):
        for data in NONSENSE:
            answer_to(server, data)
        for body in bodies:
            status, _ = server.request("POST", "/mcp", body, episode["token"])
            assert 400 <= status <= 500, body[:20]
        head = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {episode['token']}\r\n"
        assert b" 413 " in answer_to(server, f"{head}Content-Length: 6000000\r\n\r\n".encode())
        chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n5b8d80\r\n".encode() + b"1" * 5_000_001
        assert b" 413 " in answer_to(server, chunked)
    _, answer = server.request("POST", "/mcp", _call("dance"), episode["token"])
    assert "unknown action" in _text(answer)
    server.request("DELETE", f"/control/episodes/{episode['id']}", token=CONTROL)
    until(lambda: server.holds_at_most(before))


def test_two_hundred_episodes_opened_and_abandoned(server: Served) -> None:
    """As many as the limits allow are opened; those that begin are ended when idle; nothing of them stays."""
    before = server.holds()
    opened = []
    for _ in range(200):
        status, made = server.request("POST", "/control/episodes", token=CONTROL)
        assert status in (201, 503)
        if status == 201:
            opened.append(made)
            server.request("POST", "/mcp", _call("run", command="sleep 1000 & echo begun"), made["token"])
    assert len(opened) >= SESSIONS
    until(lambda: all(one["ended"] for one in server.request("GET", "/control/episodes", token=CONTROL)[1]))
    until(lambda: server.holds_at_most(before))


def test_a_working_episode_outlasts_the_idle_limit(server: Served, episode: dict[str, str]) -> None:
    """Its caller may disconnect meanwhile; the command is finished, and only then is the episode idle."""
    call = json.dumps(_call("run", command=f"sleep {2 * IDLE}; echo finished > proof")).encode()
    head = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {episode['token']}\r\n"
    head += "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
    control = f"/control/episodes/{episode['id']}"
    with abandoned(server, 1, f"{head}Content-Length: {len(call)}\r\n\r\n".encode() + call):
        # Any other call that came first would be answered, and the command be refused meanwhile.
        until(lambda: server.request("GET", control, token=CONTROL)[1]["begun"])
        assert server.request("POST", "/mcp", _call("dance"), episode["token"])[0] == 200
    answers: list[str] = []

    def answered() -> bool:
        answers.append(
            _text(server.request("POST", "/mcp", _call("run", command="cat proof"), episode["token"])[1])
        )
        return "still running" not in answers[-1]

    until(answered)
    assert "finished" in answers[-1]
    until(lambda: server.request("GET", control, token=CONTROL)[1]["ended"] != "")
    assert "idle" in server.request("GET", control, token=CONTROL)[1]["ended"]
