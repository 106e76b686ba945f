"""WebSockets behind the gate: messages are read ahead, so that the end of a connection is seen at once.

An application that works on a message does not check whether its peer is still there. This module does:
when the peer has disconnected, or has sent more than it could need, the application is notified, and
cancelled after some seconds. A connection without messages is closed too, unless the application works on
the last one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mlrcbench.integrations.serving.episodes import Rate

Message = MutableMapping[str, Any]
_AHEAD = 8
_GRACE_SECONDS = 5.0


class Stream:
    """The messages of one connection.

    Args:
        receive: The server's ASGI function for receiving.
        send: The server's ASGI function for sending.
        rate: How often messages are passed on; those that come faster wait.
        message_bytes: The largest size of a message.
        idle_seconds: Seconds without a message after which the connection is closed.
    """

    def __init__(
        self,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
        *,
        rate: Rate,
        message_bytes: int,
        idle_seconds: float,
    ) -> None:
        self._receive = receive
        self._send = send
        self._rate = rate
        self._message_bytes = message_bytes
        self._idle = idle_seconds
        self._ahead: asyncio.Queue[Message] = asyncio.Queue()
        self._waiting = False

    async def serve(self, run: Callable[[Callable[[], Awaitable[Message]]], Awaitable[None]]) -> None:
        """Run an application on the messages, until it returns or the connection has ended.

        Args:
            run: Runs the application, with the function from which it receives.
        """
        application = asyncio.ensure_future(run(self._next))
        reading = asyncio.ensure_future(self._read())
        try:
            await asyncio.wait({application, reading}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({application}, timeout=_GRACE_SECONDS)
        finally:
            for task in (application, reading):
                task.cancel()
            await asyncio.gather(application, reading, return_exceptions=True)

    async def _next(self) -> Message:
        self._waiting = True
        message = await self._ahead.get()
        self._waiting = False
        while message["type"] == "websocket.receive" and not self._rate.take():
            await asyncio.sleep(60 / self._rate.per_minute)
        return message

    async def _read(self) -> None:
        while True:
            message = await self._receive_one()
            if len(message.get("bytes") or message.get("text") or "") > self._message_bytes:
                message = await self._end(1009)
            elif self._ahead.qsize() >= _AHEAD:
                message = await self._end(1008)
            self._ahead.put_nowait(message)
            if message["type"] == "websocket.disconnect":
                return

    async def _receive_one(self) -> Message:
        """The next message, or an end after too long a silence."""
        while True:
            try:
                async with asyncio.timeout(self._idle):
                    return await self._receive()
            except TimeoutError:
                if self._waiting:
                    return await self._end(1001)

    async def _end(self, code: int) -> Message:
        await self._send({"type": "websocket.close", "code": code})
        return {"type": "websocket.disconnect", "code": code}
