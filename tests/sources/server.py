"""A small local server: plain files with ranges, and repositories as the model hub serves them."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_a_secret_of_the_tests"


class Server(ThreadingHTTPServer):
    """The server, with its content and its faults.

    Attributes:
        files: Content by path, for plain downloads.
        repositories: Content by path, by repository ("models/owner/name").
        gated: Repositories that ask for `TOKEN`.
        faults: By path, the fault at each of the next requests: a status, "cut" (half of the requested
            bytes, then the connection is closed), or "stall" (half, then nothing until `released`).
        plain: Paths that are sent as a whole, whatever part is requested.
        tags: Whether files have an ETag.
        seen: Number of requests for each path.
        sent: Number of content bytes that were sent.
        tokens: All values of the Authorization header in requests.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.faults: dict[str, list[int | str]] = {}
        self.released = threading.Event()
        self.plain: set[str] = set()
        self.tags = True
        self.seen: Counter[str] = Counter()
        self.sent = 0
        self.tokens: set[str] = set()

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving() -> Iterator[Server]:
    """A running server."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""

    def do_HEAD(self) -> None:
        """Send only headers."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """Send headers and content."""
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.seen[path] += 1
        if "Authorization" in self.headers:
            self.server.tokens.add(self.headers["Authorization"])
        fault = self.server.faults[path].pop(0) if self.server.faults.get(path) else None
        if isinstance(fault, int):
            self._send(fault, b"", {})
        elif path in self.server.files:
            self._send_file(path, self.server.files[path], body=body, fault=str(fault or ""))
        else:
            self._answer_hub(path, body=body)

    def _answer_hub(self, path: str, *, body: bool) -> None:
        """The part of the hub's interface that downloads use."""
        api = re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)/(revision|tree)/([^/]+)", path)
        file = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        name = api[1] if api else f"{file[1] or 'models/'}{file[2]}" if file else ""
        content = self.server.repositories.get(name)
        revision = api[3] if api else file[3] if file else ""
        if content is None:
            self._send(401, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif revision not in ("main", COMMIT):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif name in self.server.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        elif api and api[2] == "revision":
            siblings = [{"rfilename": one} for one in content]
            self._send_json({"id": name.partition("/")[2], "sha": COMMIT, "siblings": siblings})
        elif api:
            self._send_json(
                [{"type": "file", "path": one, "size": len(x), "oid": _tag(x)} for one, x in content.items()]
            )
        elif file and file[4] in content:
            self._send_file(path, content[file[4]], body=body, extra={"X-Repo-Commit": COMMIT})
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})

    def _send_file(
        self, path: str, content: bytes, *, body: bool, fault: str = "", extra: dict[str, str] | None = None
    ) -> None:
        tag = f'"{_tag(content)}"'
        headers = {"Accept-Ranges": "bytes", **(extra or {}), **({"ETag": tag} if self.server.tags else {})}
        range_ = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range", tag) == tag
        status, part = 200, content
        if range_ and same and path not in self.server.plain:
            start = int(range_[1])
            if start >= len(content):
                self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            status, part = 206, content[start:]
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(status, part, headers, sent=len(part) // 2 if fault else len(part), body=body)
        if fault == "stall":
            self.server.released.wait()

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(
        self,
        status: int,
        content: bytes,
        headers: dict[str, str],
        *,
        sent: int | None = None,
        body: bool = True,
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            part = content if sent is None else content[:sent]
            self.server.sent += len(
                part
            )  # counted first, because a test may look as soon as the client has the bytes
            self.wfile.write(part)
            if len(part) < len(content):
                self.close_connection = True


def _tag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
