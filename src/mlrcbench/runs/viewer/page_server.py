"""The server of the page: on this machine only, and behind a token, which is a part of the address."""

from __future__ import annotations

import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from typing_extensions import override

from mlrcbench.errors import RunError, cause
from mlrcbench.runs.viewer.watched import Watched

_HERE = Path(__file__).parent
_HOSTS = {"127.0.0.1", "localhost", "[::1]"}  # of any port, so that it can be forwarded
_FILES = {
    "": ("live.html", "text/html"),
    "live.css": ("live.css", "text/css"),
    "live.js": ("live.js", "text/javascript"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_MAX_REQUESTS = 32  # at once
_IDLE_SECONDS = 20


class PageServer(ThreadingHTTPServer):
    """Serves the page of a watched folder.

    Args:
        watched: The folder.
        port: The port on the loopback interface; 0 for any that is free.

    Raises:
        RunError: The port cannot be used.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, watched: Watched, port: int = 0) -> None:
        self.watched = watched
        self.token = secrets.token_urlsafe(24)
        self.slots = threading.BoundedSemaphore(_MAX_REQUESTS)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            raise RunError(f"the port {port} cannot be used: {cause(error)}; choose another one") from None

    @property
    def address(self) -> str:
        """The page's address, with the token that opens it."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"

    @override
    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a thread for a connection, unless too many are open."""
        if self.slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    @override
    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection's request, and make room for the next."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.slots.release()

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about a client that went away."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: PageServer
    timeout = _IDLE_SECONDS

    def do_GET(self) -> None:
        """Send the page, a part of it, the list of episodes, or what is new in one."""
        host = self.headers.get("Host", "").rpartition(":")
        token, _, rest = urlsplit(self.path).path.removeprefix("/").partition("/")
        if (host[0] or host[2]) not in _HOSTS or not secrets.compare_digest(
            token.encode("utf-8", "replace"), self.server.token.encode()
        ):
            self._answer(
                404, "text/plain", b"The address has the wrong token; use the one that was printed.\n"
            )
        elif rest in _FILES:
            name, kind = _FILES[rest]
            self._answer(200, kind, (_HERE / name).read_bytes())
        elif rest == "episodes":
            self._answer_json(
                {"root": str(self.server.watched.root), "episodes": self.server.watched.episodes()}
            )
        elif rest == "episode":
            query = parse_qs(urlsplit(self.path).query)
            start = query.get("from", ["0"])[0]
            position = int(start) if start.isdecimal() and len(start) < 16 else 0
            self._answer_json(self.server.watched.episode(query.get("name", [""])[0], position))
        else:
            self._answer(404, "text/plain", b"There is no such page.\n")

    def _answer_json(self, value: Any) -> None:
        self._answer(200, "application/json", json.dumps(value, allow_nan=False).encode("ascii"))

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: requests have the token in their address."""

    @override
    def version_string(self) -> str:
        """The server's name, without versions."""
        return "mlrcbench"
