"""MCP: episodes as tools of a server of the Model Context Protocol, for any client.

Over stdio the process is one episode. Over HTTP every episode has a token, which a client sends
as `Authorization: Bearer TOKEN` or, if it only accepts an address, as the end of `/mcp/TOKEN`.
The transport keeps no state: it does not matter how often a client connects, and connections that it
leaves open hold nothing. The official SDK is used at its low level, so that the tools have the actions'
own schemas, with either of its major versions.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.to_thread
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

import mlrcbench
from mlrcbench.integrations.serving import http
from mlrcbench.integrations.serving.access import (
    Control,
    Gate,
    GateLimits,
    Receive,
    Scope,
    Send,
    episode_of,
    plain_body,
    respond,
)
from mlrcbench.integrations.serving.episodes import Hosted, SessionTable

PATH = "/mcp"
_KEY = "mlrcbench.env.episode"
_NO_JSON = {
    "jsonrpc": "2.0",
    "id": None,
    "error": {"code": -32700, "message": "the message is no JSON, or nests too deep"},
}
_HOW = (
    "You take part in a machine-learning research competition, described below. Work on it with the tools; "
    "each call costs a step, and each answer ends with what is left. When you are done, call submit: it ends "
    "the episode, which cannot be begun again.\n\n"
)


def make_server(instructions: str, find: Callable[[Any], Hosted]) -> Server[Any]:
    """A server whose tools are the actions.

    Args:
        instructions: A text for the model, sent at the start of a connection.
        find: Finds the episode of a request; it gets the HTTP request, or None over stdio.
    """
    tools = [
        types.Tool.model_validate(
            {
                "name": spec["name"],
                "description": spec["description"],
                "inputSchema": spec["parameters"],
            }
        )
        for spec in mlrcbench.tool_specs()
    ]
    listed = types.ListToolsResult(tools=tools)
    about: dict[str, Any] = {"version": mlrcbench.__version__, "instructions": instructions}
    if not hasattr(Server, "add_request_handler"):  # the SDK's first major version
        server: Any = Server("mlrcbench", **about)

        async def call_1(request: Any) -> Any:
            result = await _call(find(server.request_context.request), request.params)
            return types.ServerResult(result)

        async def list_1(_: Any) -> Any:
            return types.ServerResult(listed)

        server.request_handlers[types.ListToolsRequest] = list_1
        server.request_handlers[types.CallToolRequest] = call_1
        return server

    async def call_2(context: Any, params: Any) -> Any:
        return await _call(find(context.request), params)

    async def list_2(_context: Any, _params: Any) -> Any:
        return listed

    return Server("mlrcbench", **about, on_list_tools=list_2, on_call_tool=call_2)


async def _call(hosted: Hosted, params: Any) -> types.CallToolResult:
    """Make one step in a thread; it is carried out to its end even if nobody waits for the answer."""
    result = await http.in_thread(hosted.call, params.name, params.arguments)
    step = {"reward": result.reward, "terminated": result.terminated, "truncated": result.truncated}
    content = [{"type": "text", "text": result.text}]
    return types.CallToolResult.model_validate(
        {"content": content, "isError": result.is_error, "_meta": {"mlrcbench/step": step}}
    )


def instructions(competition: str) -> str:
    """The text that a client gets first: how to take part, and the competition's statement.

    Raises:
        RegistryError: The competition does not exist.
    """
    return _HOW + mlrcbench.get_competition(competition).statement


def serve_stdio(table: SessionTable, words: str) -> None:
    """Serve one episode on this process's standard streams, until they end."""
    hosted = table.open()

    async def serve() -> None:
        server = make_server(words, lambda _: hosted)
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())

    try:
        anyio.run(serve)
    except* (anyio.ClosedResourceError, anyio.BrokenResourceError):
        pass  # the client has disconnected before the SDK's last message
    finally:
        table.close()


def http_app(table: SessionTable, words: str, control_token: str, *, loopback: bool = True) -> Gate:
    """The ASGI application: `/mcp` for agents, `/control/episodes` for the host.

    Args:
        table: The episodes; closed when the application's life ends.
        words: See `instructions`.
        control_token: The host's secret.
        loopback: Whether only this machine is served.
    """
    limits = GateLimits()
    control = Control(table, control_token)
    manager = StreamableHTTPSessionManager(
        make_server(words, lambda request: request.scope[_KEY]),
        json_response=True,
        stateless=True,
        max_request_body_size=limits.body_bytes,
    )

    def admit(scope: Scope) -> str | None:
        if control.owns(scope):
            return "control" if control.admits(scope) else None
        hosted = episode_of(table, scope)
        return hosted.id if hosted else None

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send, lambda: _running(manager, table))
        elif control.owns(scope):
            await control(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif PATH not in (scope["path"].rstrip("/"), scope["path"].rpartition("/")[0]):
            await respond(send, 404, {"error": f"agents use {PATH}"})
        elif scope["method"] != "POST":  # open streams would have no use, and hold connections
            await respond(send, 405, {"error": f"agents POST to {PATH}"})
        else:
            scope[_KEY] = episode_of(table, scope)
            body, receive = await plain_body(receive)
            if body is None:
                await respond(send, 400, _NO_JSON)
            else:
                await manager.handle_request(scope, receive, send)

    return Gate(app, admit, limits, loopback=loopback)


@contextlib.asynccontextmanager
async def _running(manager: StreamableHTTPSessionManager, table: SessionTable) -> AsyncIterator[None]:
    try:
        async with manager.run():
            yield
    finally:
        await anyio.to_thread.run_sync(table.close)


async def _live(receive: Receive, send: Send, running: Callable[[], Any]) -> None:
    """Run a context for the time between startup and shutdown of ASGI's lifespan protocol."""
    await receive()
    async with running():
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


def serve_http(
    table: SessionTable, words: str, control_token: str, *, host: str, port: int, episodes: int
) -> None:
    """Serve over HTTP until interrupted, and print addresses and secrets to standard error.

    Args:
        table: The episodes.
        words: See `instructions`.
        control_token: The host's secret.
        host: Address to bind to.
        port: Port to bind to.
        episodes: How many episodes are opened at the start.
    """
    app = http_app(table, words, control_token, loopback=http.is_loopback(host))
    for _ in range(episodes):
        print(f"an episode: http://{host}:{port}{PATH}/{table.open().token}", file=sys.stderr)
    http.serve(app, host, port, control_token)
