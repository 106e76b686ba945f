"""A gate before an ASGI application: which requests may pass, how often, and how large they may be.

The gate checks every request before the application sees a byte of it: whether it comes from a web page
(refused, as a browser can be made to call servers on its own machine), which credential it has (401),
whether it comes too often (429), is too large (413) or too slow (408). The gate reads the body, within
its limits, and then passes it on in one piece. It uses only the ASGI protocol itself, so it works before
any framework.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from mlrcbench.errors import MlrcbenchError
from mlrcbench.integrations.serving.episodes import Full, Hosted, Rate, SessionTable
from mlrcbench.integrations.serving.websockets import Message, Stream
from mlrcbench.text import plain_text

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Admit = Callable[[Scope], str | None]
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class GateLimits:
    """Limits on traffic.

    Attributes:
        body_bytes: Size of a request, or of a message of a WebSocket.
        body_seconds: Time in which a request's body must arrive.
        per_minute: Requests and messages of one credential; the same number may come at once.
        idle_seconds: Time after which a WebSocket without messages is closed.
    """

    body_bytes: int = 5_000_000
    body_seconds: float = 20.0
    per_minute: float = 1_200.0
    idle_seconds: float = 1_800.0


class Gate:
    """An application behind its gate.

    Args:
        app: The guarded application.
        admit: Returns a name for a request's credential, or None to refuse the request.
        limits: Limits on traffic.
        loopback: Whether only this machine is served, and only under its own names.
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
        """Serve one ASGI connection: a request or a stream of messages."""
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
        await stream.serve(lambda messages: self._app(scope, messages, send))

    def _refuse(self, scope: Scope) -> tuple[int, str] | None:
        """Status and explanation if the request must not pass."""
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
        """The whole body, or status and explanation if it cannot be read."""
        limit = self._limits.body_bytes
        too_large = 413, f"a request may have {limit:,} bytes"
        length = header(scope, b"content-length")
        if length.isdecimal() and int(length[:20]) > limit:
            return b"", too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return b"", (400, "the request was broken off")
                    body += message.get("body", b"")
                    if len(body) > limit:
                        return b"", too_large
                    if not message.get("more_body", False):
                        return bytes(body), None
        except TimeoutError:
            return b"", (408, f"a request must arrive within {self._limits.body_seconds:g} seconds")


class Control:
    """The host's side, below `/control/episodes`, behind a separate token.

    `GET` lists episodes, `GET /ID` shows one, `DELETE /ID` ends it, and `POST`, if it is allowed, opens one
    and answers with its token.

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
        """Whether a request has the host's token."""
        return hmac.compare_digest(bearer(scope).encode(), self._token)

    def owns(self, scope: Scope) -> bool:
        """Whether a request is for the host's side."""
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
        episode = self._table.get(id) if id else None
        if id and episode is None:
            return 404, {"error": "the episode does not exist"}
        if episode is None or method not in ("GET", "DELETE"):
            return 405, {"error": "GET lists or shows, DELETE ends one, POST opens one where it can"}
        if method == "DELETE":
            episode.end("ended by the host")
        return 200, episode.summary()


def client_gate(
    inner: App,
    table: SessionTable,
    control_token: str,
    *,
    token: str,
    loopback: bool,
    limits: GateLimits | None = None,
) -> Gate:
    """A gate before a framework's application for training programs, with the host's side next to it.

    Args:
        inner: The framework's application.
        table: Its episodes; closed when the application ends.
        control_token: The operator's secret.
        token: The clients' secret, a bearer token or an API key; without one, every program on this machine
            is a client.
        loopback: Whether only this machine is served.
        limits: Limits on traffic.

    Raises:
        MlrcbenchError: Other machines are to be served without a token.
    """
    if not token and not loopback:
        raise MlrcbenchError("to be reached from other machines, a server needs a token: set MLRCBENCH_TOKEN")
    control = Control(table, control_token, opens=False)

    def admit(scope: Scope) -> str | None:
        if control.owns(scope):
            return "control" if control.admits(scope) else None
        credential = bearer(scope) or header(scope, b"x-api-key")
        return "client" if not token or hmac.compare_digest(credential.encode(), token.encode()) else None

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
    """A header's value; empty if the header is missing."""
    return next((value.decode("latin-1") for key, value in scope.get("headers", ()) if key == name), "")


def bearer(scope: Scope) -> str:
    """The bearer token of the header Authorization; empty if it is missing."""
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
    """The episode whose token a request has, in a header or at the end of its path."""
    return table.find(bearer(scope) or str(scope.get("path", "")).rpartition("/")[2])


async def plain_body(receive: Receive) -> tuple[str | None, Receive]:
    """The body that the gate passes on, as plain JSON, and a function from which an application receives it.

    The text is None if the body is not JSON; it is then passed on as it is.
    """
    message = await receive()
    body = message.get("body", b"")
    text = plain_text(body)
    return text, _replay(body if text is None else text.encode(), receive)


def _replay(body: bytes, receive: Receive) -> Receive:
    """An application's `receive`: first the body that was read, then the connection's further events."""
    delivered = False

    async def replay() -> Message:
        nonlocal delivered
        if delivered:
            return await receive()
        delivered = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
