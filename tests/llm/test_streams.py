"""Streams as servers send them: one row of `streams.toml` each, sent by a real server."""

from __future__ import annotations

import copy
import gzip
import json
import random
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlrcbench.agents.styles import STYLES, read_wishes
from mlrcbench.errors import ENDPOINT_KINDS, EndpointError
from mlrcbench.llm import Endpoint, Reply
from mlrcbench.llm.answer import read_answer
from mlrcbench.llm.failures import failure_in
from mlrcbench.llm.reply import read_reply, read_usage
from mlrcbench.testing.endpoint import Answer, ScriptedServer

HELLO = [{"role": "user", "content": "Hello"}]
ROWS = tomllib.loads(Path(__file__).with_name("streams.toml").read_text("utf-8"))["stream"]
TABLE = pytest.mark.parametrize("row", ROWS, ids=[f"{row['server']} {row['year']}" for row in ROWS])
EVENTS = {"Content-Type": "text/event-stream"}
WHOLE = {
    "id": "chatcmpl-1",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": [{"type": "text", "text": "Look."}],
                "reasoning_content": "Hm.",
                "reasoning_details": [{"type": "reasoning.text", "text": "Hm.", "index": 0}],
                "refusal": None,
                "tool_calls": [
                    {
                        "id": "a",
                        "index": 0,
                        "type": "function",
                        "function": {"name": "run", "arguments": "{}"},
                    },
                    {"id": "b", "function": {"name": "submit", "arguments": {}}, "extra_content": {"a": 1}},
                ],
            },
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 1}},
    "error": None,
}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-secret-of-the-tests")


def body_of(row: dict[str, Any]) -> str:
    """The body of an answer that a row describes."""
    if "body" in row:
        return str(row["body"])
    pieces = [{"choices": [{"index": 0, "delta": json.loads(delta)}]} for delta in row["deltas"]]
    pieces.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces)


def complete(body: bytes, *, stream: bool = True, **headers: str) -> Reply:
    """The reply to one call that is answered with these bytes."""
    answer = Answer(body=body, headers={**EVENTS, **headers})
    with ScriptedServer([answer]) as server:
        return Endpoint("m", server.url, retries=0, stream=stream, timeout=10.0).complete(HELLO)


@TABLE
@pytest.mark.parametrize("stream", [True, False], ids=["asked for", "not asked for"])
def test_each_stream_is_read(row: dict[str, Any], stream: bool) -> None:
    """Text, calls and further fields are those of the row, which are sent back with the conversation."""
    reply = complete(body_of(row).encode(), stream=stream)
    assert reply.text == row.get("text", "")
    assert [[call.name, call.arguments] for call in reply.tool_calls] == row.get("calls", [])
    assert len({call.id for call in reply.tool_calls} - {""}) == len(reply.tool_calls)
    assert reply.message.items() >= row.get("extra", {}).items()
    for call in reply.message.get("tool_calls", ()):
        assert call.items() >= row.get("call_extra", {}).items()
    for style in STYLES:
        assert read_wishes(style, reply)[1].items() >= row.get("extra", {}).items()


@TABLE
def test_line_ends_and_packets_do_not_matter(row: dict[str, Any]) -> None:
    """Lines may end as on any system, and bytes may come in any portions."""
    text = body_of(row)
    expected = read_answer([text.encode()])
    for end in ("\r\n", "\r"):
        changed = text.replace("\n", end).encode()
        assert read_answer([changed]) == expected
        assert read_answer([bytes([byte]) for byte in changed]) == expected
    assert read_answer([b"\xef\xbb\xbf" + text.strip().encode()]) == expected


def test_the_connection_may_break_after_the_end() -> None:
    """What counts is the reason for the end; without it the reply is incomplete."""
    piece = 'data: {"choices": [{"delta": {"content": "hello"}, "finish_reason": REASON}]}\n\n'

    def chunks(reason: str) -> Any:
        yield piece.replace("REASON", reason).encode()
        raise OSError("reset")

    assert read_answer(chunks('"stop"'), 10.0, (OSError,))["choices"][0]["message"]["content"] == "hello"
    with pytest.raises(OSError, match="reset"):
        read_answer(chunks("null"), 10.0, (OSError,))


def test_a_stream_of_comments_ends_with_the_time() -> None:
    """A server that only keeps the connection open is too slow."""
    with pytest.raises(EndpointError, match="not over after") as caught:
        read_answer((b": wait\n\n" for _ in range(10**9)), 0.05)
    assert caught.value.kind == "timeout"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"\x1f\x8b garbage", {"Content-Encoding": "gzip"}),
        (gzip.compress(b'{"choices": []}' * 99, mtime=0)[:-20], {"Content-Encoding": "gzip"}),
        (b"", {}),
        (b"\xff\xfe\xfd", {}),
        (b"data: \xff\xfe\n\n", {}),
        (b"data: [[[[[" + b"[" * 100_000, {}),
        (b"data: 3\n\ndata: null\n\n", {}),
        (b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"', {}),
        (b'{"choices": [{"message": {"content": ' + b"9" * 5_000 + b"}}]}", {}),
        (b'{"choices": [{"message": {"content": NaN}}]}' * 2, {}),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_damaged_bytes_are_a_failure(body: bytes, headers: dict[str, str], stream: bool) -> None:
    """Truncated, compressed badly, not Unicode, too deep, too large: a failure that is tried again."""
    with pytest.raises(EndpointError) as caught:
        complete(body, stream=stream, **headers)
    assert caught.value.kind in ("malformed", "connection")


def test_an_invalid_byte_does_not_cost_the_reply() -> None:
    """It is replaced."""
    assert complete(b'{"choices": [{"message": {"content": "a\xffb"}}]}').text == "a\ufffdb"


@pytest.mark.parametrize(
    "usage", [None, "12", [], {"prompt_tokens": None}, {"prompt_tokens": "x"}, {"prompt_tokens": 10**400}]
)
def test_any_usage_is_an_estimate_at_least(usage: Any) -> None:
    """Whatever a server reports, tokens are counted."""
    body = {"choices": [{"message": {"content": "a"}}], "usage": usage}
    reply = complete(json.dumps(body).encode())
    assert reply.usage.estimated
    assert reply.usage.tokens > 0
    body["usage"] = {"prompt_tokens": "12", "completion_tokens": 3.0}
    assert complete(json.dumps(body).encode()).usage.tokens == 15


VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**400,
    "",
    "x",
    "\ud800",
    [],
    {},
    [[]],
    {"text": {}},
    [None, "a"],
]


def mutate(value: Any, chance: random.Random) -> Any:
    """The value with one part replaced, removed, wrapped or repeated."""
    value = copy.deepcopy(value)
    places: list[tuple[Any, Any]] = []

    def collect(inner: Any) -> None:
        entries = inner.items() if isinstance(inner, dict) else enumerate(inner)
        for key, entry in list(entries):
            places.append((inner, key))
            if isinstance(entry, dict | list):
                collect(entry)

    collect(value)
    parent, key = chance.choice(places)
    match chance.randrange(4):
        case 0:
            parent[key] = copy.deepcopy(chance.choice(VALUES))
        case 1:
            del parent[key]
        case 2:
            parent[key] = chance.choice([[parent[key]], {"value": parent[key]}, json.dumps(parent[key])])
        case _:
            other, name = chance.choice(places)
            parent[key] = copy.deepcopy(other[name])
    return value


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.sampled_from(["whole", "piece", *range(len(ROWS))]))
def test_mutated_replies_are_replies_or_failures(seed: int, times: int, kind: Any) -> None:
    """Types swapped, keys missing, values nested: only the client's own error comes out."""
    chance = random.Random(seed)
    if isinstance(kind, int) and "deltas" in ROWS[kind]:
        pieces: Any = [{"choices": [{"delta": json.loads(delta)}]} for delta in ROWS[kind]["deltas"]]
        pieces.append({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": WHOLE["usage"]})
    else:
        pieces = [WHOLE]
    for _ in range(times):
        if pieces:
            pieces = mutate(pieces, chance)
    stream = kind != "whole"
    body = "".join(f"data: {json.dumps(piece)}\n\n" if stream else json.dumps(piece) for piece in pieces)
    try:
        data = read_answer([body.encode("utf-8", "replace")])
        failure = failure_in(data, "m")
        usage = read_usage(data, [], None)
        reply = read_reply(data, usage)
    except EndpointError as error:
        assert error.kind in ENDPOINT_KINDS
        return
    assert failure is None or failure.kind in ENDPOINT_KINDS
    for style in STYLES:
        wishes, message = read_wishes(style, reply)
        assert all(wish.form for wish in wishes)
        json.dumps([reply.message, message], ensure_ascii=False, allow_nan=False).encode("utf-8")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(ROWS))
def test_damaged_streams_are_replies_or_failures(seed: int, row: dict[str, Any]) -> None:
    """Bytes lost, changed or repeated: only the client's own error comes out."""
    chance = random.Random(seed)
    body = bytearray(body_of(row).encode())
    for _ in range(chance.randrange(1, 5)):
        start, size = chance.randrange(len(body) + 1), chance.randrange(20)
        body[start : start + size] = chance.choice([b"", chance.randbytes(size), bytes(body[:size]), b"\n\n"])
    try:
        data = read_answer([bytes(body)])
        failure_in(data, "m")
        read_reply(data, read_usage(data, [], None))
    except EndpointError as error:
        assert error.kind in ENDPOINT_KINDS
