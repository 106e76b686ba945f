"""Tool calls from the pieces of a stream.

Servers disagree about which pieces belong together. Some number their calls, some give every call the
number 0 and another id, some give neither; some repeat the name in each piece, and some send the
arguments as an object. Pieces are joined by these rules:

- Another id at the same number, with a name, begins another call.
- A piece without a number belongs to the call with its id, or else to the last call.
- A name, or an object of arguments, that follows whole arguments begins another call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlrcbench.llm.reply import malformed
from mlrcbench.text import read_json

_MAX_CALLS = 1_000


@dataclass(slots=True)
class _Call:
    """A call that grows with each piece.

    Attributes:
        number: Its number in the stream; None if it has none.
        id: Its id; empty if it has none so far.
        name: Name of the function.
        arguments: Pieces of the arguments' JSON.
        extra: Further keys of the call, and of its function.
    """

    number: int | None
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    function: dict[str, Any] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether the arguments are a whole JSON object."""
        last = next((part for part in reversed(self.arguments) if part.strip()), "")
        if not last.rstrip().endswith("}"):
            return False
        try:
            return isinstance(read_json("".join(self.arguments)), dict)
        except ValueError:
            return False


class StreamedCalls:
    """The tool calls of a message, in the order in which they began."""

    def __init__(self) -> None:
        self.entries: list[_Call] = []

    def add(self, piece: Any) -> int:
        """Add a piece; returns its size in characters.

        Raises:
            EndpointError: "malformed": it is not an object, or there are too many calls.
        """
        if not isinstance(piece, Mapping):
            raise malformed(f"a tool call of its stream is {repr(piece)[:200]}")
        function = piece.get("function")
        function = function if isinstance(function, Mapping) else {}
        identifier, name = _text(piece.get("id")), _text(function.get("name"))
        arguments = function.get("arguments")
        if arguments is not None and not isinstance(arguments, str):
            arguments = json.dumps(arguments)
        call = self._call(_number(piece.get("index")), identifier, name, arguments or "")
        call.id = call.id or identifier
        call.name = _grown(call, name)
        if arguments:
            call.arguments.append(arguments)
        call.extra |= _others(piece, ("index", "id", "type", "function"))
        call.function |= _others(function, ("name", "arguments"))
        return len(repr(piece))

    def whole(self) -> list[dict[str, Any]]:
        """The calls, in the form that a plain reply has."""
        return [
            {
                **call.extra,
                "id": call.id or None,
                "function": {**call.function, "name": call.name, "arguments": "".join(call.arguments)},
            }
            for call in self.entries
        ]

    def _call(self, number: int | None, identifier: str, name: str, arguments: str) -> _Call:
        """The call that a piece belongs to, which may be a new one."""
        call = self._continued(number, identifier)
        if call is None or _begins_another(call, identifier, name, arguments):
            call = _Call(number)
            self.entries.append(call)
            if len(self.entries) > _MAX_CALLS:
                raise malformed(f"it has over {_MAX_CALLS} tool calls")
        return call

    def _continued(self, number: int | None, identifier: str) -> _Call | None:
        """The call so far that a piece with this number and id could continue."""
        latest = list(reversed(self.entries))
        if identifier:
            for call in latest:
                if call.id == identifier and number in (None, call.number):
                    return call
        if number is not None:
            return next((call for call in latest if call.number == number), None)
        return latest[0] if latest else None


def _begins_another(call: _Call, identifier: str, name: str, arguments: str) -> bool:
    if not name:
        return False
    if identifier and call.id:
        return identifier != call.id
    if call.arguments and call.name and name != call.name:
        return True
    return bool(arguments.strip()) and call.is_whole


def _grown(call: _Call, piece: str) -> str:
    """The name of a call after one more piece, which may be a part, the whole again, or nothing."""
    if call.arguments or not piece or piece == call.name:
        return call.name or piece
    return piece if piece.startswith(call.name) else call.name + piece


def _others(mapping: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name not in known and value is not None}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int | None:
    """An index, which some servers send as text."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
