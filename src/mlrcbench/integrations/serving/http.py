"""Serving an ASGI application over HTTP: uvicorn, with limits on connections that do nothing.

uvicorn closes a connection that is silent between two requests, but not one that never finishes
the head of a request; here such a head has a time limit. As the number of connections is limited, a
client that opens many and sends little would otherwise keep all others out.
"""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mlrcbench.integrations.serving.access import App, Control

T = TypeVar("T")
HEAD_SECONDS = 10.0
CONNECTIONS = 512


class Impatient(H11Protocol):
    """HTTP/1.1, with a time limit on each request's head."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        elif self._timer is None:
            self._watch()

    def on_response_complete(self) -> None:
        """See `H11Protocol`."""
        super().on_response_complete()
        if self.cycle.response_complete:  # otherwise the next request is already being answered
            self._watch()

    def _watch(self) -> None:
        self._unwatch()
        self._timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        """Close, unless the connection has become another protocol's, such as a WebSocket's."""
        if self.transport.get_protocol() is self:
            self.transport.close()


def is_loopback(host: str) -> bool:
    """Whether only its own machine can reach a server that is bound to this address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a thread; if cancelled, stop waiting, but let the function finish.

    Threads have no limit here: an episode holds at most one, and the table limits episodes.
    """
    limiter = anyio.CapacityLimiter(1)
    result: T = await anyio.to_thread.run_sync(function, *arguments, abandon_on_cancel=True, limiter=limiter)
    return result


def server(app: App, host: str, port: int, *, message_bytes: int = 5_000_000) -> uvicorn.Server:
    """A server that is not running yet; `run` it, or await its `serve`."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Impatient,
        limit_concurrency=CONNECTIONS,
        ws_max_size=message_bytes,
        ws_max_queue=4,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=5,
        access_log=False,  # it would contain the tokens in paths
        server_header=False,
        log_level="warning",
    )
    return uvicorn.Server(config)


def serve(app: App, host: str, port: int, control_token: str) -> None:
    """Print the address and the secret of the host's side to standard error; serve until interrupted."""
    where = f"http://{host}:{port}{Control.path}"
    print(f"the host's side: {where}, token {control_token}", file=sys.stderr, flush=True)
    server(app, host, port).run()
