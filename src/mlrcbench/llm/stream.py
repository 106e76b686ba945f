"""A chat completion from the pieces of a stream.

The pieces are joined to the JSON that a plain call would have returned, so that one reader serves
both; `streamed_calls.py` joins those of tool calls. A stream is complete if it gave a reason for its end, or
said that it is over; a stream that just stops is not.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlrcbench.errors import EndpointError
from mlrcbench.llm.reply import MAX_CHARS, malformed, text_of
from mlrcbench.llm.streamed_calls import StreamedCalls
from mlrcbench.llm.wordings import error_of

DONE = "[DONE]"  # the piece with which servers end a stream
_MAX_FIELDS = 100
_READ_ELSEWHERE = ("role", "content", "tool_calls", "function_call")
_REPEATED = ("id", "type", "index", "format")  # keys of an entry that every piece of it repeats


class _Message:
    """A message that grows with each piece."""

    def __init__(self) -> None:
        self.content: list[str] = []
        self.fields: dict[str, list[Any]] = {}
        self.calls = StreamedCalls()
        self.usage: dict[str, Any] = {}
        self.finish: str | None = None
        self.error: Any = None
        self.is_over = False
        self._size = 0

    def add(self, piece: Any) -> None:
        """Add one piece of the stream."""
        if piece == DONE:
            self.is_over = True
            return
        if not isinstance(piece, Mapping):
            raise malformed(f"a piece of its stream is {repr(piece)[:200]}")
        choices = piece.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else None
        choice = first if isinstance(first, Mapping) else {}  # the last piece may have only the usage
        self.error = error_of(piece) or choice.get("error") or self.error
        for usage in (piece.get("usage"), choice.get("usage")):
            if isinstance(usage, Mapping):  # reported at the end, in every piece, or in parts
                self.usage |= {name: count for name, count in usage.items() if count is not None}
        if isinstance(choice.get("finish_reason"), str) and choice["finish_reason"]:
            self.finish = choice["finish_reason"]
        delta = choice.get("delta")
        if not isinstance(delta, Mapping) and not self._size:
            delta = choice.get("message")  # some servers send the whole message as one piece
        if isinstance(delta, Mapping):
            self._add_delta(delta)

    def _add_delta(self, delta: Mapping[str, Any]) -> None:
        text = text_of(delta.get("content"))
        self._count(len(text))
        self.content.append(text)
        calls = delta.get("tool_calls")
        if not calls and isinstance(delta.get("function_call"), Mapping):
            calls = [{"index": 0, "function": delta["function_call"]}]  # the API's first form of a call
        for piece in calls if isinstance(calls, list) else ():
            self._count(self.calls.add(piece))
        for name, value in delta.items():
            if name not in _READ_ELSEWHERE and value is not None:
                self._count(len(value) if isinstance(value, str) else len(repr(value)))
                self.fields.setdefault(name, []).append(value)
        if len(self.fields) > _MAX_FIELDS:
            raise malformed(f"its message has over {_MAX_FIELDS} fields")

    def _count(self, chars: int) -> None:
        self._size += chars
        if self._size > MAX_CHARS:
            raise malformed(f"it is longer than {MAX_CHARS:,} characters")

    def completion(self) -> dict[str, Any]:
        """The completion, in the form that a plain call returns."""
        message: dict[str, Any] = {name: _joined(pieces) for name, pieces in self.fields.items()}
        message["content"] = "".join(self.content) or None
        if self.calls.entries:
            message["tool_calls"] = self.calls.whole()
        choice = {"message": message, "finish_reason": self.finish}
        failure = {"error": self.error} if self.error else {}
        return {"choices": [choice], "usage": self.usage or None, **failure}


def assemble(
    pieces: Iterable[Any], seconds: float, broken: tuple[type[Exception], ...] = ()
) -> dict[str, Any]:
    """The completion that a stream's pieces make.

    Args:
        pieces: The pieces as JSON values, in order; the text `DONE` says that no more follow.
        seconds: Seconds that the whole stream may take.
        broken: Errors of a connection that breaks, which do not matter after the end of the message.

    Raises:
        EndpointError: "malformed": a piece has the wrong form; "connection": the stream broke off;
            "timeout": it takes too long.
    """
    deadline = time.monotonic() + seconds
    message = _Message()
    try:
        for piece in pieces:
            message.add(piece)
            if message.is_over:
                break
            if time.monotonic() > deadline:
                raise too_slow(seconds)
    except broken:
        if message.finish is None:
            raise
    if message.finish is None and not message.is_over and not message.error:
        raise EndpointError("the stream broke off before the reply was complete; try again", "connection")
    return message.completion()


def too_slow(seconds: float) -> EndpointError:
    """The failure for a stream that takes longer than it may."""
    return EndpointError(
        f"the stream was not over after {seconds:g} s; raise the timeout, or lower max_tokens", "timeout"
    )


def _joined(pieces: Sequence[Any]) -> Any:
    """The value of a field that came in pieces: text and lists grow, anything else is replaced."""
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(pieces)
    if all(isinstance(piece, list) for piece in pieces):
        return _merged([entry for piece in pieces for entry in piece])
    return pieces[-1]


def _merged(entries: Sequence[Any]) -> list[Any]:
    """The entries of a list, of which those with the same index and type are parts of one."""
    groups: dict[Any, dict[str, list[Any]]] = {}
    for number, entry in enumerate(entries):
        key: Any = ("alone", number)
        if isinstance(entry, Mapping) and isinstance(entry.get("index"), int):
            key = (entry["index"], str(entry.get("type")))
        parts = groups.setdefault(key, {})
        for name, value in (entry if isinstance(entry, Mapping) else {"": entry}).items():
            if value is not None:
                parts.setdefault(name, []).append(value)
    whole = [
        {name: values[0] if name in _REPEATED else _joined(values) for name, values in parts.items()}
        for parts in groups.values()
    ]
    return [entry[""] if entry.keys() == {""} else entry for entry in whole]
