"""A server in its own process, watched from outside, and an attacker with nothing but sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CONTROL = "the host's secret"
POOLS = 48  # threads that the pools of a web framework grow to
# Requests that no server should fail on: invalid heads and bodies, too much of either, too little.
NONSENSE = (
    b"",
    b"\0" * 1000,
    b"GET",
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n{",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"x" * 200_000 + b"\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x01" * 100,
)


class Served:
    """A running server.

    Attributes:
        port: The port on which it listens.
        process: Its process.
    """

    def __init__(self, command: list[str], folder: Path, port: int, ready: str) -> None:
        self.port = port
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._log = (folder / "log").open("w+")
        environment = {**os.environ, "TMPDIR": str(folder), "MLRCBENCH_CONTROL_TOKEN": CONTROL}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlrcbench", *command],
            stderr=self._log,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
        until(lambda: ready in self.log)
        until(self._listens)

    @property
    def log(self) -> str:
        """What the server has written to standard error."""
        return (self.folder / "log").read_text()

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 5).close()
            return True
        return False

    def raw(self) -> socket.socket:
        """A new connection to the server."""
        return socket.create_connection(("127.0.0.1", self.port), 30)

    def request(
        self, method: str, path: str, body: Any = None, token: str = "", **headers: str
    ) -> tuple[int, Any]:
        """Status and JSON (or text) of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        standard = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if token:
            standard["Authorization"] = f"Bearer {token}"
        text = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        try:
            connection.request(method, path, text, {**standard, **headers})
            response = connection.getresponse()
            answer = response.read().decode()
        finally:
            connection.close()
        with contextlib.suppress(ValueError):
            return response.status, json.loads(last_event(answer))
        return response.status, answer

    def holds(self) -> tuple[int, int, int, int]:
        """Descriptors, threads, descendants and temporary entries of the server."""
        root = Path(f"/proc/{self.process.pid}")
        entries = [one for one in self.folder.iterdir() if one.name != "log"]
        return (
            len(list((root / "fd").iterdir())),
            len(list((root / "task").iterdir())),
            len(_descendants(self.process.pid)),
            len(entries),
        )

    def holds_at_most(self, before: tuple[int, int, int, int]) -> bool:
        """Whether the server holds no more than before, of each kind; threads of pools come once and stay."""
        limits = (before[0], max(before[1], POOLS), *before[2:])
        return all(now <= limit for now, limit in zip(self.holds(), limits, strict=True))

    def stop(self) -> None:
        """Interrupt the server as a terminal would, and check that nothing of it is left."""
        children = _descendants(self.process.pid)
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        self._log.close()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
        assert [one.name for one in self.folder.iterdir()] == ["log"]


def _descendants(pid: int) -> list[int]:
    pids: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                pids += [int(child), *_descendants(int(child))]
    return pids


def last_event(text: str) -> str:
    """The data of the last event, if a text is a stream of events; otherwise the text itself."""
    lines = [line.strip() for line in text.splitlines()]
    data = [line.removeprefix("data:") for line in lines if line.startswith("data:")]
    return data[-1] if data and not text.startswith("{") else text


def free_port() -> int:
    """A port that is free at this moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until a condition holds; for long, as the machine may be busy."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.05)


@contextlib.contextmanager
def abandoned(server: Served, count: int, data: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that send a little and then nothing; at the end they are reset."""
    sockets = [server.raw() for _ in range(count)]
    for one in sockets:
        one.sendall(data)
    try:
        yield sockets
    finally:
        for one in sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            one.close()


def answer_to(server: Served, data: bytes) -> bytes:
    """The start of the answer to some bytes, after which nothing more is sent."""
    with server.raw() as one, contextlib.suppress(OSError):
        one.sendall(data)
        one.shutdown(socket.SHUT_WR)
        return one.recv(1000)
    return b""


def websocket(server: Served, path: str = "/ws", token: str = "", origin: str = "") -> socket.socket:
    """A connection on which frames can be sent; OSError if the server refuses it."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if origin:
        lines.append(f"Origin: {origin}")
    one = server.raw()
    one.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = one.recv(1)
        if not data:
            break
        head += data
    if b" 101 " not in head:
        one.close()
        raise ConnectionRefusedError(head.decode("latin-1"))
    return one


def frame(message: Any) -> bytes:
    """A text frame, masked with zeros."""
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    size = (
        struct.pack(">B", 0x80 | len(data))
        if len(data) < 126
        else struct.pack(">BH", 0xFE, len(data))
        if len(data) < 65_536
        else struct.pack(">BQ", 0xFF, len(data))
    )
    return b"\x81" + size + b"\0\0\0\0" + data


def next_frame(one: socket.socket) -> tuple[int, bytes]:
    """Kind and content of the next frame: 1 is text; 8 is the end, also if no frame comes."""
    try:
        with one.makefile("rb") as stream:
            kind, size = stream.read(2)
            size = struct.unpack(">H", stream.read(2))[0] if size == 126 else size
            size = struct.unpack(">Q", stream.read(8))[0] if size == 127 else size
            return kind & 15, stream.read(size)
    except (OSError, ValueError):
        return 8, b""
