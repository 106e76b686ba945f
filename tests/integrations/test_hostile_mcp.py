"""MCP with hostile agents and failing hosts, over HTTP: every message is answered, and no episode is lost."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

from mlrcbench.integrations import mcp
from mlrcbench.integrations.mcp_server import Introduction
from mlrcbench.integrations.serving.episodes import Hosted, SessionTable
from tests.integrations.attacker import last_event
from tests.integrations.hostile import VALUES, calls, served, strange_table


@pytest.fixture
def table(tmp_path: Path) -> SessionTable:
    """Strange episodes."""
    return strange_table(tmp_path)


@pytest.fixture
def port(table: SessionTable) -> Iterator[int]:
    """A server of these."""
    with served(mcp.http_app(table, Introduction("instructions", "statement"), "control"), table) as number:
        yield number


def _post(port: int, hosted: Hosted, body: str) -> tuple[int, Any]:
    """Status and answer to one message."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {
        "Authorization": f"Bearer {hosted.token}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    connection.request("POST", "/mcp", body.encode("utf-8", "surrogatepass"), headers)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(last_event(text.decode())) if text else None


def _call(port: int, hosted: Hosted, name: Any, arguments: Any) -> tuple[int, Any]:
    params = {"name": name, "arguments": arguments}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return _post(port, hosted, json.dumps(message))


def test_nonsense_is_answered(port: int, table: SessionTable, tmp_path: Path) -> None:
    """Arguments of every kind, in every encoding; then the episode is submitted and scored."""
    hosted = table.open()
    sent = [("run", {"command": value}) for value in VALUES] + [(value, {}) for value in VALUES]
    for name, arguments in [*sent, *(("run", value) for value in VALUES), *calls(3, 40)]:
        status, answer = _call(port, hosted, name, arguments)
        assert status < 500, (name, arguments)
        assert answer is not None
    raw = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"run","arguments":{"command":%s}}}'
    for value in ("1" + "0" * 5_000, "[" * 5_000, "NaN", "1e999", '"\ud800"', '"\\ud800"', '"a', "{"):
        assert _post(port, hosted, raw % value)[0] < 500
    assert not hosted.ended
    status, answer = _call(port, hosted, "submit", {})
    assert (status, answer["result"]["isError"]) == (200, False)
    summary = hosted.summary()
    assert (summary["ended"], summary["test_score"]["reason"]) == ("done", "caf? ?")
    (record,) = tmp_path.rglob("record.jsonl")
    assert '"submitted"' in record.read_text().splitlines()[-1]


def test_a_failure_of_the_host_is_told_to_the_host(port: int, table: SessionTable) -> None:
    """The agent reads that the episode is over; the host sees why, and no score."""
    hosted = table.open()
    for command in ("break", "ls"):
        _, answer = _call(port, hosted, "run", {"command": command})
        assert answer["result"]["isError"]
        assert "the episode is over" in answer["result"]["content"][0]["text"]
        assert "caf" not in answer["result"]["content"][0]["text"]
    summary = hosted.summary()
    assert (summary["failure"][:8], summary["test_score"]) == ("the disk", None)
    assert json.dumps(summary).isascii()
