"""MCP: episodes as tools of a server of the Model Context Protocol, for any client.

Over stdio the process is one episode. Over HTTP every episode has a token, which a client sends
as `Authorization: Bearer TOKEN` or, if it only accepts an address, as the end of `/mcp/TOKEN`.
The transport keeps no state: it does not matter how often a client connects, and connections that it
leaves open hold nothing. Answers to calls are streams of events, which begin at once and carry the progress.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.to_thread
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from mlrcbench.integrations.mcp_server import Introduction, make_server
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
from mlrcbench.integrations.serving.episodes import SessionTable

PATH = "/mcp"
_KEY = "mlrcbench.env.episode"
_NO_JSON = {
    "jsonrpc": "2.0",
    "id": None,
    "error": {"code": -32700, "message": "the message is no JSON, or nests too deep"},
}


def serve_stdio(table: SessionTable, about: Introduction, prepare: Callable[[threading.Event], Any]) -> None:
    """Serve one episode on this process's standard streams, until they end.

    Args:
        table: The table that has the episode.
        about: See `introduction`.
        prepare: Builds the instance unless an event is set; meanwhile the client is served already.
    """
    hosted, ended = table.open(), threading.Event()

    async def serve() -> None:
        server = make_server(about, lambda _: hosted)
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())

    builder = threading.Thread(target=prepare, args=(ended,), name="mlrcbench-prepare")
    builder.start()
    try:
        anyio.run(serve)
    except* (anyio.ClosedResourceError, anyio.BrokenResourceError):
        pass  # the client has disconnected before the SDK's last message
    finally:
        ended.set()
        table.close()
        builder.join()


def http_app(table: SessionTable, about: Introduction, control_token: str, *, loopback: bool = True) -> Gate:
    """The ASGI application: `/mcp` for agents, `/control/episodes` for the host.

    Args:
        table: The episodes; closed when the application's life ends.
        about: See `introduction`.
        control_token: The host's secret.
        loopback: Whether only this machine is served.
    """
    limits = GateLimits()
    control = Control(table, control_token)
    manager = StreamableHTTPSessionManager(
        make_server(about, lambda request: request.scope[_KEY]),
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
    table: SessionTable, about: Introduction, control_token: str, *, host: str, port: int, episodes: int
) -> None:
    """Serve over HTTP until interrupted, and print addresses and secrets to standard error.

    Args:
        table: The episodes.
        about: See `introduction`.
        control_token: The host's secret.
        host: Address to bind to.
        port: Port to bind to.
        episodes: How many episodes are opened at the start.
    """
    app = http_app(table, about, control_token, loopback=http.is_loopback(host))
    for _ in range(episodes):
        print(f"an episode: http://{host}:{port}{PATH}/{table.open().token}", file=sys.stderr)
    http.serve(app, host, port, control_token)
