"""Claude Code plays an episode over MCP, with a local stand-in for its language model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

import mlrcbench

PACKAGE = "@anthropic-ai/claude-code@2.1.197"
SERVER = "mcp__research__"
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("briefing", {}),
    ("run", {"command": "sleep 6; echo it lasted"}),
    ("evaluate", {}),
    ("submit", {}),
]


class _Model(BaseHTTPRequestHandler):
    """Answers each request with the next call, or with a text when all are made or no tool is there."""

    requests: list[dict[str, Any]]

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        """Answer a request as a stream of events."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(body)
        calls = json.dumps([one for one in body.get("messages", []) if one["role"] == "assistant"])
        made = calls.count(SERVER)
        names = [tool["name"] for tool in body.get("tools", [])]
        name, arguments = "", {}
        if f"{SERVER}briefing" in names and made < len(CALLS):
            name, arguments = SERVER + CALLS[made][0], CALLS[made][1]
        elif "WaitForMcpServers" in names and "WaitForMcpServers" not in calls:
            name = "WaitForMcpServers"
        text = "".join(
            f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
            for event in _events(name, arguments, len(self.requests))
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def _events(name: str, arguments: dict[str, Any], number: int) -> list[dict[str, Any]]:
    block: dict[str, Any] = {"type": "text", "text": ""}
    delta = {"type": "text_delta", "text": "finished"}
    if name:
        block = {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(arguments)}
    message: dict[str, Any] = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": "stand-in",
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    ended = {"stop_reason": "tool_use" if name else "end_turn"}
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]


@pytest.fixture
def model() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Address of the stand-in, and the requests that it has got."""
    requests: list[dict[str, Any]] = []
    handler = type("Model", (_Model,), {"requests": requests})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()


@pytest.mark.long
def test_claude_code_plays(model: tuple[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    """Its model reads the whole instructions, gets the briefing, and plays to the end."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("Node.js is not installed")
    (tmp_path / "package.json").write_text("{}")
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", PACKAGE]
    if subprocess.run(install, cwd=tmp_path, capture_output=True, check=False).returncode != 0:
        pytest.skip("npm has no package of Claude Code here")
    address, requests = model
    arguments = ["-m", "mlrcbench", "mcp", "_template", "--records", str(tmp_path / "records")]
    servers = {"mcpServers": {"research": {"command": sys.executable, "args": arguments}}}
    (tmp_path / "mcp.json").write_text(json.dumps(servers))
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "ANTHROPIC_BASE_URL": address,
        "ANTHROPIC_API_KEY": "none",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "ENABLE_TOOL_SEARCH": "false",
    }
    command = [
        str(tmp_path / "node_modules/.bin/claude"),
        "--print",
        "Take part.",
        "--mcp-config",
        "mcp.json",
    ]
    command += ["--strict-mcp-config", "--allowedTools", "mcp__research", "--tools", "WaitForMcpServers"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "finished" in done.stdout, done.stderr
    read = json.dumps(requests)
    assert "cannot be begun again" in read, "the end of the instructions"
    assert "Root mean squared error" in read
    assert "it lasted" in read
    (record,) = (tmp_path / "records").iterdir()
    assert [row.action["action"] for row in mlrcbench.read_record(record).steps] == [
        "run",
        "evaluate",
        "submit",
    ]
