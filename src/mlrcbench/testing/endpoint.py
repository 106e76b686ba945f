"""A server that speaks the chat-completions API and answers by a script, for tests and examples.

    with ScriptedServer([call("run", command="ls"), say("Done.")]) as server:
        endpoint = Endpoint("any-model", base_url=server.url)

It answers on a port of this machine over real HTTP, in one piece or as a stream, as the request asks.
Failures of servers are a part of the script: `Answer` has a field for each kind.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from mlrcbench.llm import estimate_tokens

_PIECE_CHARS = 7  # few, so that a stream cuts names and JSON anywhere
_MAX_BYTES = 50_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server does about one request.

    Attributes:
        text: What the model says.
        calls: The tools that it calls, as (name, JSON of the arguments), well-formed or not.
        finish: Why the model stopped; by default the reason that fits.
        usage: (prompt, completion) tokens to report; by default an estimate, None for no report.
        refusal: What the model says if it refuses.
        status: The HTTP status; with any but 200, `error` is sent instead of a completion.
        error: Code and message of a failure.
        headers: Further HTTP headers, such as Retry-After.
        wait: Seconds before anything is sent.
        breaks: Whether the connection ends in the middle of the answer.
        resets: Whether the connection is reset before anything is sent.
        body: Bytes to send as they are, for answers that are not completions.
    """

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    finish: str | None = None
    usage: tuple[int, int] | None = (-1, -1)
    refusal: str | None = None
    status: int = 200
    error: tuple[str, str] = ("", "")
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0.0
    breaks: bool = False
    resets: bool = False
    body: bytes | None = None


Script = Sequence[Answer] | Callable[[dict[str, Any]], Answer]


def say(text: str) -> Answer:
    """An answer in which the model says something and calls no tool."""
    return Answer(text)


def call(name: str, /, **arguments: Any) -> Answer:
    """An answer in which the model calls one tool."""
    return Answer(calls=((name, json.dumps(arguments)),))


def fail(status: int, message: str, code: str = "", **headers: str) -> Answer:
    """An answer in which the server fails; underscores in names of headers become hyphens."""
    return Answer(
        status=status,
        error=(code, message),
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


class ScriptedServer:
    """A server on a port of this machine.

    Args:
        script: Answers in order, or a function that answers the JSON of a request.

    Attributes:
        requests: The JSON of each request, in order of arrival.
        keys: The key that each request was sent with.
    """

    def __init__(self, script: Script) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self._script = script
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The `base_url` for a client."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def answer(self, request: dict[str, Any], key: str) -> Answer:
        """The script's answer to a request."""
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
            self.keys.append(key)
        if callable(self._script):
            return self._script(request)
        if number < len(self._script):
            return self._script[number]
        return fail(400, f"the script has only {len(self._script)} answers", "script_over")

    def close(self) -> None:
        """Stop the server."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: ScriptedServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that have disconnected."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        """Answer one request."""
        body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), _MAX_BYTES))
        if self.path != "/v1/chat/completions":
            self._send_json(404, _error(("not_found", f"there is no {self.path}")), {})
            return
        request = json.loads(body)
        owner = self.server.owner
        answer = owner.answer(request, self.headers.get("Authorization", "").removeprefix("Bearer "))
        if answer.wait and owner.closing.wait(answer.wait):
            self.close_connection = True
        elif answer.resets:
            self._reset()
        elif answer.body is not None:
            self._send(answer.status, answer.body, answer.headers)
        elif answer.status != 200:
            self._send_json(answer.status, _error(answer.error), answer.headers)
        elif request.get("stream"):
            self._stream(answer, request)
        else:
            self._send_json(200, _completion(answer, request), answer.headers, half=answer.breaks)

    def _send_json(self, status: int, data: Any, headers: Mapping[str, str], *, half: bool = False) -> None:
        self._send(status, json.dumps(data).encode(), headers, half=half)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], *, half: bool = False) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)
        self.close_connection = self.close_connection or half

    def _stream(self, answer: Answer, request: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        events = [f"data: {json.dumps(piece)}\n\n".encode() for piece in _pieces(answer, request)]
        events = events[: len(events) // 2] if answer.breaks else [*events, b"data: [DONE]\n\n"]
        for event in events:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        if answer.breaks:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _reset(self) -> None:
        """Close the connection with a TCP reset, as when a process dies."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


def _error(error: tuple[str, str]) -> dict[str, Any]:
    return {"error": {"code": error[0] or None, "message": error[1], "type": "error", "param": None}}


def _message(answer: Answer, request: dict[str, Any]) -> dict[str, Any]:
    """The model's message; ids of calls continue the conversation's, as clients refuse repeated ids."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.refusal is not None:
        message["refusal"] = answer.refusal
    if answer.calls:
        before = sum(len(earlier.get("tool_calls") or ()) for earlier in request["messages"])
        message["tool_calls"] = [
            {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for number, (name, arguments) in enumerate(answer.calls, before)
        ]
    return message


def _finish(answer: Answer) -> str:
    return answer.finish or ("tool_calls" if answer.calls else "stop")


def _usage(answer: Answer, request: dict[str, Any]) -> dict[str, int] | None:
    if answer.usage is None:
        return None
    prompt, completion = answer.usage
    if prompt < 0:
        prompt, completion = estimate_tokens(request["messages"]), estimate_tokens(_message(answer, request))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _completion(answer: Answer, request: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "message": _message(answer, request), "finish_reason": _finish(answer)}
    frame = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": request["model"]}
    return {**frame, "choices": [choice], "usage": _usage(answer, request)}


def _pieces(answer: Answer, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The completion in pieces of a few characters each."""
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": request["model"]}

    def piece(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    message = _message(answer, request)
    yield piece({"role": "assistant"})
    for name in ("content", "refusal"):
        for part in _cut(message.get(name) or ""):
            yield piece({name: part})
    for index, tool_call in enumerate(message.get("tool_calls", ())):
        function = tool_call["function"]
        yield piece(
            {"tool_calls": [{**tool_call, "index": index, "function": {**function, "arguments": ""}}]}
        )
        for part in _cut(function["arguments"]):
            yield piece({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    yield piece({}, _finish(answer))
    yield {**frame, "choices": [], "usage": _usage(answer, request)}


def _cut(text: str) -> list[str]:
    return [text[start : start + _PIECE_CHARS] for start in range(0, len(text), _PIECE_CHARS)]
