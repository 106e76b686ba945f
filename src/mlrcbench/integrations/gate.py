"""A gate in front of an ASGI application: who may pass, how often, and how much at once.

Of every request the gate decides before the application sees a byte of it: whether it comes
from a web page (refused: a browser can be made to call servers of its own machine), whose it is
(401), whether it comes too often (429), is too large (413) or too slow (408). The body is read here,
within its limits, and then handed on whole. Nothing else of ASGI is used than its plain
protocol, so that the gate stands before any framework.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from mlrcbench.errors import MlrcbenchError
from mlrcbench.integrations.hosting import Full, Hosted, Rate, SessionTable
from mlrcbench.integrations.sockets import Message, Stream

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Admit = Callable[[Scope], str | None]
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class GateLimits:
    """Of the traffic.

    Attributes:
        body_bytes: Of a request, or of a message of a WebSocket.
        body_seconds: Until a request's body must be here.
        per_minute: Requests and messages of one credential; as many may come at once.
        idle_seconds: Of a WebSocket without messages.
    """

    body_bytes: int = 5_000_000
    body_seconds: float = 20.0
    per_minute: float = 1_200.0
    idle_seconds: float = 1_800.0


class Gate:
    """An application behind its gate.

    Args:
        app: What is guarded.
        admit: Says whose a request is, by any name for its credential; None to refuse it.
        limits: Of the traffic.
        loopback: Whether only this machine is served, by its own names.
    """

    def __init__(
        self, app: App, admit: Admit, limits: GateLimits | None = None, *, loopback: bool = True
    ) -> None:
        self._app = app
        self._admit = admit
        self._limits = limits or GateLimits()
        self._loopback = loopback
        self._rates: dict[str, Rate] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, request or message stream, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refused = self._refuse(scope)
        if scope["type"] == "websocket":
            if refused:
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": refused[1]})
            else:
                await self._stream(scope, receive, send)
            return
        body, refused = (b"", refused) if refused else await self._read(scope, receive)
        if refused:
            await respond(send, refused[0], {"error": refused[1]}, close=True)
        else:
            await self._app(scope, _replay(body, receive), send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = Stream(
            receive,
            send,
            rate=self._rate(scope),
            message_bytes=self._limits.body_bytes,
            idle_seconds=self._limits.idle_seconds,
        )
        await stream.serve(lambda given: self._app(scope, given, send))

    def _refuse(self, scope: Scope) -> tuple[int, str] | None:
        """Status and words, if the request must not pass."""
        if header(scope, b"origin"):
            return 403, "requests of web pages are not served"
        host = header(scope, b"host")
        if self._loopback and host.rpartition(":")[0] not in _LOOPBACK and host not in _LOOPBACK:
            return 403, "this server serves its own machine, by the name 127.0.0.1 or localhost"
        if self._admit(scope) is None:
            return 401, "send a token: Authorization: Bearer TOKEN"
        return None if self._rate(scope).take() else (429, "too many requests; wait a moment")

    def _rate(self, scope: Scope) -> Rate:
        key = self._admit(scope) or ""
        if len(self._rates) > _KEYS:
            self._rates.clear()
        return self._rates.setdefault(key, Rate(self._limits.per_minute))

    async def _read(self, scope: Scope, receive: Receive) -> tuple[bytes, tuple[int, str] | None]:
        """The whole body, or why there is none."""
        most = self._limits.body_bytes
        words = f"a request may have {most:,} bytes"
        length = header(scope, b"content-length")
        if length.isdecimal() and int(length[:20]) > most:
            return b"", (413, words)
        found = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return b"", (400, "the request was broken off")
                    found += message.get("body", b"")
                    if len(found) > most:
                        return b"", (413, words)
                    if not message.get("more_body", False):
                        return bytes(found), None
        except TimeoutError:
            return b"", (408, f"a request must be here within {self._limits.body_seconds:g} seconds")


class Control:
    """The host's side, below `/control/episodes`, behind a token of its own.

    `GET` lists, `GET /ID` shows one, `DELETE /ID` ends it, and `POST` opens one and answers with
    its token, if episodes are opened here.

    Args:
        table: The episodes.
        token: The host's secret.
        opens: Whether `POST` opens episodes.
    """

    path = "/control/episodes"

    def __init__(self, table: SessionTable, token: str, *, opens: bool = True) -> None:
        self._table = table
        self._token = token.encode()
        self._opens = opens

    def admits(self, scope: Scope) -> bool:
        """Whether a request brings the host's token."""
        return hmac.compare_digest(bearer(scope).encode(), self._token)

    def owns(self, scope: Scope) -> bool:
        """Whether a request is for this side."""
        return str(scope.get("path", "")).startswith("/control")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        if not str(scope["path"]).startswith(self.path):
            await respond(send, 404, {"error": f"the host's side is {self.path}"})
            return
        status, answer = await asyncio.to_thread(
            self._answer, scope["method"], scope["path"][len(self.path) :].strip("/")
        )
        await respond(send, status, answer)

    def _answer(self, method: str, id: str) -> tuple[int, Any]:
        if not id and method == "GET":
            return 200, self._table.summaries()
        if not id and method == "POST" and self._opens:
            try:
                hosted = self._table.open()
            except Full as error:
                return 503, {"error": str(error)}
            return 201, {"id": hosted.id, "token": hosted.token}
        hosted_or_none = self._table.get(id) if id else None
        if id and hosted_or_none is None:
            return 404, {"error": "there is no such episode"}
        if hosted_or_none is None or method not in ("GET", "DELETE"):
            return 405, {"error": "GET lists or shows, DELETE ends one, POST opens one where it can"}
        if method == "DELETE":
            hosted_or_none.end("ended by the host")
        return 200, hosted_or_none.summary()


def client_gate(
    inner: App,
    table: SessionTable,
    control_token: str,
    *,
    token: str,
    loopback: bool,
    limits: GateLimits | None = None,
) -> Gate:
    """A gate before a framework's application for training programs; the host's side beside it.

    Args:
        inner: The framework's.
        table: Its episodes; closed when the application's life ends.
        control_token: The operator's secret.
        token: The clients' secret, a bearer's or an API key. Without one, all of this machine are clients.
        loopback: Whether only this machine is served.
        limits: Of the traffic.

    Raises:
        MlrcbenchError: Other machines are to be served without a token.
    """
    if not token and not loopback:
        raise MlrcbenchError("to be reached from other machines, a server needs a token: set MLRCBENCH_TOKEN")
    control = Control(table, control_token, opens=False)

    def admit(scope: Scope) -> str | None:
        if control.owns(scope):
            return "control" if control.admits(scope) else None
        given = bearer(scope) or header(scope, b"x-api-key")
        return "client" if not token or hmac.compare_digest(given.encode(), token.encode()) else None

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def close_then_send(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                await asyncio.to_thread(table.close)
            await send(message)

        if control.owns(scope):
            await control(scope, receive, send)
        else:
            await inner(scope, receive, close_then_send if scope["type"] == "lifespan" else send)

    return Gate(app, admit, limits, loopback=loopback)


def header(scope: Scope, name: bytes) -> str:
    """A header's value; empty if there is none."""
    return next((value.decode("latin-1") for key, value in scope.get("headers", ()) if key == name), "")


def bearer(scope: Scope) -> str:
    """The token of the header Authorization; empty if there is none."""
    kind, _, token = header(scope, b"authorization").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


async def respond(send: Send, status: int, answer: Any, *, close: bool = False) -> None:
    """Send JSON, and close the connection if the rest of the request should not be read."""
    body = json.dumps(answer).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def episode_of(table: SessionTable, scope: Scope) -> Hosted | None:
    """The episode whose token a request brings, as a header or as the end of its path."""
    return table.find(bearer(scope) or str(scope.get("path", "")).rpartition("/")[2])


def _replay(body: bytes, receive: Receive) -> Receive:
    """What an application receives: the body that was read, then what happens to the connection."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
