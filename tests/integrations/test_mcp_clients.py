"""MCP as its clients use it: slow calls and slow builds, lost answers, clients in other languages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

import mlrcbench
from mlrcbench.integrations.mcp_server import introduction
from tests.integrations.attacker import Served, free_port

TYPESCRIPT_SDK = "@modelcontextprotocol/sdk@1.32.2"
# A client whose calls fail after nine seconds without an answer or progress.
TYPESCRIPT = """
    import { Client } from "@modelcontextprotocol/sdk/client/index.js";
    import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
    import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

    const [address, command, ...args] = process.argv.slice(2);
    const transport = address === "stdio"
      ? new StdioClientTransport({ command, args, env: { ...process.env } })
      : new StreamableHTTPClientTransport(new URL(address));
    const client = new Client({ name: "test", version: "0" });
    await client.connect(transport);
    const seen = { progress: [], answers: [], instructions: client.getInstructions() };
    seen.resource = (await client.readResource({ uri: "mlrcbench://statement" })).contents[0].text;
    const call = async (name, args, options) => {
      try {
        const result = await client.callTool({ name, arguments: args }, undefined, options);
        seen.answers.push(result.content[0].text);
      } catch (error) {
        seen.answers.push(String(error));
      }
    };
    const long = {
      timeout: 9000, resetTimeoutOnProgress: true, onprogress: (one) => seen.progress.push(one.message),
    };
    await call("briefing", {});
    await call("run", { command: "sleep 11; echo it lasted" }, long);
    await call("run", { command: "sleep 3; echo it was lost" }, { timeout: 1000 });
    await call("last_answer", {});
    await call("submit", {});
    console.log(JSON.stringify(seen));
    await client.close();
"""


@pytest.fixture(scope="module")
def typescript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with the TypeScript SDK; without Node.js, or without its packages, the tests are skipped."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node.js is not installed")
    folder = tmp_path_factory.mktemp("typescript")
    (folder / "package.json").write_text("{}")
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", TYPESCRIPT_SDK]
    done = subprocess.run(install, cwd=folder, capture_output=True, check=False, timeout=300)
    if done.returncode != 0:
        pytest.skip("npm has no package of the TypeScript SDK here")
    program = folder / "client.mjs"
    program.write_text(textwrap.dedent(TYPESCRIPT))
    return program


def _check_typescript(program: Path, *arguments: str) -> None:
    command = ["node", str(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    seen = json.loads(done.stdout)
    briefing, long, lost, again, submitted = seen["answers"]
    assert "Root mean squared error" in briefing
    assert "it lasted" in long
    assert seen["progress"][0].startswith("run has run for ")
    assert "timed out" in lost
    assert "it was lost" in again
    assert "submitted" in submitted
    assert "Root mean squared error" in seen["resource"]


@pytest.mark.slow
def test_a_typescript_client_plays_over_stdio(typescript: Path, tmp_path: Path) -> None:
    """Progress keeps its long call alive, and what it lost it reads later."""
    server = [sys.executable, "-m", "mlrcbench", "mcp", "_template", "--records", str(tmp_path)]
    _check_typescript(typescript, "stdio", *server)


@pytest.mark.slow
def test_a_typescript_client_plays_over_http(typescript: Path, tmp_path: Path) -> None:
    """The same as over stdio."""
    port = free_port()
    command = ["mcp", "_template", "--http", str(port), "--records", str(tmp_path / "records")]
    served = Served(command, tmp_path / "tmp", port, "the host")
    address = next(word for word in served.log.split() if "/mcp/" in word)
    _check_typescript(typescript, address)
    served.stop()


def test_a_client_is_served_while_the_instance_is_built(tmp_path: Path) -> None:
    """It connects and lists tools at once; a build that is not finished ends with the client."""
    program = f"""
        import pathlib
        import mlrcbench
        from mlrcbench.integrations.mcp import serve_stdio
        from mlrcbench.integrations.mcp_server import introduction
        from mlrcbench.integrations.serving.episodes import SessionTable

        def prepare(ended):
            ended.wait()
            pathlib.Path({str(tmp_path / "ended")!r}).touch()

        table = SessionTable(lambda: mlrcbench.make("_template", records={str(tmp_path)!r}))
        serve_stdio(table, introduction("_template"), prepare)
    """
    arguments = ["-c", textwrap.dedent(program)]
    started = StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))

    async def main() -> int:
        async with stdio_client(started) as streams, ClientSession(*streams) as session:
            await session.initialize()
            return len((await session.list_tools()).tools)

    assert anyio.run(main) == len(mlrcbench.tool_specs()) + 2
    assert (tmp_path / "ended").exists()


def test_a_python_client_sees_progress_and_may_call_in_parallel(tmp_path: Path) -> None:
    """Progress comes every few seconds; of two calls at once the second waits for the first."""
    arguments = ["-m", "mlrcbench", "mcp", "_template", "--records", str(tmp_path)]
    started = StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))
    progress: list[tuple[float, str | None]] = []
    answers: list[str] = []

    async def note(now: float, _total: float | None, message: str | None) -> None:
        progress.append((now, message))

    async def main() -> None:
        async with stdio_client(started) as streams, ClientSession(*streams) as session:
            await session.initialize()

            async def call(command: str) -> None:
                result: Any = await session.call_tool("run", {"command": command}, progress_callback=note)
                answers.append(result.content[0].text)

            async with anyio.create_task_group() as group:
                group.start_soon(call, "sleep 6; echo one")
                group.start_soon(call, "echo two")

    anyio.run(main)
    assert sorted(answer.split()[0] for answer in answers) == ["one", "two"]
    assert any(now >= 5 and "has run for" in str(message) for now, message in progress)


@pytest.mark.parametrize("competition", [card.id for card in mlrcbench.list_competitions()])
def test_an_introduction_is_short_and_of_the_tier_that_is_played(competition: str) -> None:
    """Clients cut instructions; the statement of one tier would mislead on another."""
    tiers = mlrcbench.get_competition(competition).card.tiers
    about = {tier: introduction(competition, tier) for tier in tiers}
    assert all(len(one.instructions) <= 2_000 and "`briefing`" in one.instructions for one in about.values())
    assert len({one.statement for one in about.values()}) == len(tiers)


def test_fastmcps_client_plays(tmp_path: Path) -> None:
    """Its own types, and its own reading of errors."""
    fastmcp = pytest.importorskip("fastmcp")
    transports = pytest.importorskip("fastmcp.client.transports")
    arguments = ["-m", "mlrcbench", "mcp", "_template", "--records", str(tmp_path)]
    transport = transports.StdioTransport(sys.executable, arguments, env=dict(os.environ))

    async def main() -> list[str]:
        async with fastmcp.Client(transport) as client:
            calls: list[tuple[str, dict[str, Any]]] = [
                ("briefing", {}),
                ("evaluate", {}),
                ("dance", {}),
                ("submit", {}),
            ]
            return [
                (await client.call_tool(name, given, raise_on_error=False)).content[0].text
                for name, given in calls
            ]

    briefing, evaluated, unknown, submitted = anyio.run(main)
    assert "Root mean squared error" in briefing
    assert "dev" in evaluated
    assert "unknown action" in unknown
    assert "submitted" in submitted
