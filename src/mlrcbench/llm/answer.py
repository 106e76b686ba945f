"""The body of an answer: one JSON value, or the events of a stream, whichever the server sent.

What was asked for does not decide which it is, since some servers ignore the wish for a stream and some
always stream. Events are those of server-sent events, read as leniently as servers write them: with any
line ends, with or without the space after the colon, with comments that keep the connection open,
without the empty line between two events, or as plain lines of JSON.
"""

from __future__ import annotations

import codecs
import itertools
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

from mlrcbench.llm.reply import malformed
from mlrcbench.llm.stream import DONE, assemble, too_slow
from mlrcbench.text import read_json

_MAX_CHARS = 64 << 20  # of a body that is one value, and of a line of a stream
_EVENT = re.compile(r"(data|event|id|retry)?[ \t]*:")


def read_answer(
    chunks: Iterable[bytes], seconds: float = float("inf"), broken: tuple[type[Exception], ...] = ()
) -> Any:
    """The JSON of a completion, from the bytes of a server's answer.

    Args:
        chunks: The bytes, in pieces of any size.
        seconds: Seconds that the whole answer may take.
        broken: See `assemble`.

    Raises:
        EndpointError: "malformed": it is neither JSON nor a stream; or as for `assemble`.
    """
    lines = _lines(chunks, seconds)
    first = next((line for line in lines if line.strip()), "").lstrip("\ufeff \t")
    if not first:
        raise malformed("it is empty")
    if _EVENT.match(first):
        return assemble(_events(itertools.chain([first], lines)), seconds, broken)
    text, size = [first], len(first)
    for line in lines:
        text.append(line)
        size += len(line) + 1
        if size > _MAX_CHARS:
            raise malformed(f"it is longer than {_MAX_CHARS:,} characters")
    try:
        return parse("\n".join(text))
    except ValueError as error:
        if not first.startswith("{") or len(text) == 1:
            raise malformed(f"it is not JSON ({error}): {first[:200]!r}") from None
    return assemble(_events([f"data:{line}" for line in text]), seconds)


def parse(text: str) -> Any:
    """The value of a JSON text, in which infinite numbers become null; see `read_json`."""
    return read_json(text, parse_constant=lambda _: None)


def _lines(chunks: Iterable[bytes], seconds: float) -> Iterator[str]:
    """The lines of a body, without their ends."""
    deadline = time.monotonic() + seconds
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest: list[str] = []
    size = 0
    for chunk in chunks:
        *whole, last = decoder.decode(chunk).split("\n")
        for line in whole:
            yield from _without_returns("".join([*rest, line]))
            rest, size = [], 0
        rest.append(last)
        size += len(last)
        if size > _MAX_CHARS:
            raise malformed(f"it has a line of over {_MAX_CHARS:,} characters")
        if time.monotonic() > deadline:
            raise too_slow(seconds)
    yield from _without_returns("".join([*rest, decoder.decode(b"", final=True)]))


def _without_returns(line: str) -> list[str]:
    return line.removesuffix("\r").split("\r")


def _events(lines: Iterable[str]) -> Iterator[Any]:
    """The JSON values that the events of a stream carry; `DONE` for the event that ends it."""
    data: list[str] = []
    kind = ""
    for line in itertools.chain(lines, [""]):
        name, _, value = line.partition(":")
        name = name.strip()
        if line.lstrip().startswith("{"):  # a line of JSON without a name
            name, value = "data", line
        if data and (not line.strip() or (name == "data" and _is_json("\n".join(data)))):
            yield _event("\n".join(data), kind)
            data = []
        if not line.strip():
            kind = ""
        elif name == "event":
            kind = value.strip()
        elif name == "data" and value.strip():
            data.append(value.removeprefix(" "))


def _event(text: str, kind: str) -> Any:
    if text.strip().startswith(DONE):
        return DONE
    try:
        value = parse(text)
    except ValueError as error:
        if kind == "error":
            return {"error": text}
        raise malformed(f"a piece of its stream is not JSON ({error}): {text[:200]!r}") from None
    if kind == "error" and not (isinstance(value, dict) and value.get("error")):
        return {"error": value}
    return value


def _is_json(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return text.strip() == DONE
    return True
