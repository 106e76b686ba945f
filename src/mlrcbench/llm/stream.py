"""A chat completion from the pieces of a stream.

The pieces are put together to the JSON that a plain call would have returned, so that one reader
serves both. A stream is whole if it gave a reason for its end; one that just stops is not.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from mlrcbench.errors import EndpointError
from mlrcbench.llm.reply import MAX_CHARS, malformed

_MAX_CALLS = 1_000


class _Message:
    """A message as it grows."""

    def __init__(self) -> None:
        self.parts: dict[str, list[str]] = {"content": [], "refusal": []}
        self.calls: dict[int, dict[str, Any]] = {}
        self.finish: str | None = None
        self.usage: Any = None
        self.size = 0

    def add(self, piece: Any) -> None:
        """One piece of the stream."""
        if not isinstance(piece, Mapping):
            raise malformed(f"a piece of its stream is {repr(piece)[:200]}")
        if piece.get("usage"):
            self.usage = piece["usage"]
        choices = piece.get("choices")
        if not (isinstance(choices, list) and choices and isinstance(choices[0], Mapping)):
            return  # such as the last one, which has the usage alone
        if isinstance(choices[0].get("finish_reason"), str):
            self.finish = choices[0]["finish_reason"]
        delta = choices[0].get("delta")
        if isinstance(delta, Mapping):
            self._add_delta(delta)

    def _add_delta(self, delta: Mapping[str, Any]) -> None:
        for name, parts in self.parts.items():
            if isinstance(delta.get(name), str):
                parts.append(self._counted(delta[name]))
        found = delta.get("tool_calls")
        for one in found if isinstance(found, list) else []:
            if not isinstance(one, Mapping):
                raise malformed(f"a tool call of its stream is {repr(one)[:200]}")
            index = one.get("index")
            place = index if isinstance(index, int) else len(self.calls)
            call = self.calls.setdefault(place, {"id": None, "function": {"name": "", "arguments": ""}})
            if len(self.calls) > _MAX_CALLS:
                raise malformed(f"it has over {_MAX_CALLS} tool calls")
            call["id"] = call["id"] or one.get("id")
            self._add_function(call["function"], one.get("function"))

    def _add_function(self, whole: dict[str, str], piece: Any) -> None:
        for name in whole if isinstance(piece, Mapping) else ():
            if isinstance(piece.get(name), str):
                whole[name] += self._counted(piece[name])

    def _counted(self, text: str) -> str:
        self.size += len(text)
        if self.size > MAX_CHARS:
            raise malformed(f"it is longer than {MAX_CHARS:,} characters")
        return text

    def completion(self) -> dict[str, Any]:
        """As a plain call returns it."""
        message: dict[str, Any] = {name: "".join(parts) or None for name, parts in self.parts.items()}
        if self.calls:
            message["tool_calls"] = [call for _, call in sorted(self.calls.items())]
        return {"choices": [{"message": message, "finish_reason": self.finish}], "usage": self.usage}


def assemble(pieces: Iterable[Any], seconds: float) -> dict[str, Any]:
    """The completion that a stream's pieces make.

    Args:
        pieces: As JSON, in order.
        seconds: That the whole may take.

    Raises:
        EndpointError: "malformed", "connection": it broke off; "timeout": it takes too long.
    """
    deadline = time.monotonic() + seconds
    message = _Message()
    for piece in pieces:
        message.add(piece)
        if time.monotonic() > deadline:
            raise EndpointError(
                f"the stream was not over after {seconds:g} s; raise the timeout, or lower max_tokens",
                "timeout",
            )
    if message.finish is None:
        raise EndpointError("the stream broke off before the reply was complete; try again", "connection")
    return message.completion()
