"""The client of language models, against a server that speaks the real protocol and fails on demand."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlrcbench.errors import ENDPOINT_KINDS, EndpointError
from mlrcbench.llm import Endpoint, Reply, ToolCall, read_prices
from mlrcbench.llm.reply import read_reply, read_usage
from mlrcbench.llm.stream import assemble
from mlrcbench.protocol.tools import tool_specs
from mlrcbench.testing.endpoint import Answer, ScriptedServer, call, fail, say

KEY = "sk-a-secret-of-the-tests"
HELLO = [{"role": "user", "content": "Hello"}]
KEYS = (
    *("choices", "message", "delta", "content", "refusal", "tool_calls", "index", "id", "function", "name"),
    *("arguments", "finish_reason", "usage", "prompt_tokens", "completion_tokens", "prompt_tokens_details"),
)
SOON = {"Retry-After": "0.01"}
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def complete(*script: Answer, tools: Any = (), **options: Any) -> Reply:
    """The reply to one call to a server that answers from a script."""
    with ScriptedServer(script) as server:
        return Endpoint("gpt-4o", server.url, **{"timeout": 10.0, **options}).complete(HELLO, tools)


def failure(*script: Answer, **options: Any) -> EndpointError:
    """The error of one call, without retries."""
    with pytest.raises(EndpointError) as caught:
        complete(*script, **{"retries": 0, **options})
    assert caught.value.kind in ENDPOINT_KINDS
    return caught.value


@STREAMS
def test_a_reply_is_read(stream: bool) -> None:
    """A reply has text, calls with arguments as written, usage with its price, and a message to send back."""
    answer = Answer("Look: ✓", (("run", '{"command": "ls -la /tmp"}'), ("submit", "{}")), usage=(1000, 100))
    reply = complete(answer, tools=tool_specs("openai"), stream=stream)
    assert reply.text == "Look: ✓"
    calls = (ToolCall("call_0", "run", '{"command": "ls -la /tmp"}'), ToolCall("call_1", "submit", "{}"))
    assert reply.tool_calls == calls
    assert reply.finish == "tool_calls"
    assert (reply.usage.prompt, reply.usage.completion, reply.usage.estimated) == (1000, 100, False)
    assert reply.usage.money == pytest.approx(1000 * 2.5e-6 + 100 * 10e-6)
    assert [one["function"]["name"] for one in reply.message["tool_calls"]] == ["run", "submit"]
    assert reply.message["content"] == reply.text


@STREAMS
def test_what_is_sent(stream: bool) -> None:
    """A request holds messages, tools and options as given, the key in its header, and nothing else."""
    with ScriptedServer([say("a"), say("b")]) as server:
        options = {"temperature": 0.5, "max_tokens": 7, "stream": stream}
        endpoint = Endpoint("m", server.url, **options)  # type: ignore[arg-type]
        reply = endpoint.complete(HELLO, tool_specs("openai"))
        endpoint.complete([*HELLO, reply.message, *HELLO])
    first, second = server.requests
    assert first["messages"] == HELLO
    assert first["tools"] == tool_specs("openai")
    assert (first["model"], first["temperature"], first["max_tokens"]) == ("m", 0.5, 7)
    assert "tools" not in second
    assert second["messages"][1] == {"role": "assistant", "content": "a"}
    assert server.keys == [KEY, KEY]


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (Answer(wait=30), "timeout", "within 0.2 s; raise the timeout"),
        (fail(429, "slow down"), "rate limit", "slow down"),
        (fail(429, "pay", "insufficient_quota"), "rate limit", "nothing left to pay"),
        (fail(500, "oh"), "server", "try again later"),
        (
            fail(400, "This model's maximum context length is 9", "context_length_exceeded"),
            "context overflow",
            "9",
        ),
        (fail(400, "the prompt is too long for the context window"), "context overflow", "shorten"),
        (fail(400, "the input exceeds the maximum number of tokens allowed"), "context overflow", "shorten"),
        (fail(413, "too large"), "context overflow", "shorten"),
        (fail(401, "wrong key"), "request", "check the key"),
        (fail(404, "no such model"), "request", "check the model's name"),
        (Answer(resets=True), "connection", "does it run"),
        (Answer(refusal="I will not."), "refusal", "I will not."),
        (Answer("x", finish="content_filter"), "refusal", "differently"),
        (Answer("Half of this is lost", breaks=True), "connection", "connection"),
    ],
)
@STREAMS
def test_failures_have_a_kind(answer: Answer, kind: str, message: str, stream: bool) -> None:
    """Each failure has a kind and a sentence that says what to do; streamed or not."""
    error = failure(answer, stream=stream, timeout=0.2 if answer.wait else 10.0)
    assert error.kind == kind
    assert message in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>a login page</html>",
        b"[]",
        b"null",
        b'{"choices": []}',
        b'{"choices": "abc"}',
        b'{"choices": [{"message": "text"}]}',
        b'{"choices": [{"message": {"content": 3}}]}',
        b'{"choices": [{"message": {"content": "a", "tool_calls": {"a": 1}}}]}',
        b'{"choices": [{"message": {"tool_calls": [{"function": {"name": null}}]}}]}',
        b'{"choices": ' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_answers_that_are_not_completions(body: bytes) -> None:
    """Whatever a server sends is a reply, or a failure that names its fault."""
    assert failure(Answer(body=body)).kind == "malformed"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("content_filter"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)


@given(JSON, st.lists(JSON, max_size=4))
def test_any_json_is_a_reply_or_a_failure(data: Any, pieces: list[Any]) -> None:
    """Whole or in pieces, nothing but an `EndpointError` is raised, and a reply can be sent back."""
    for parts in (None, pieces):
        try:
            plain = {"choices": [{"message": data}], "usage": data}
            whole = plain if parts is None else assemble(parts, 10.0)
            reply = read_reply(whole, read_usage(whole, [], None))
        except EndpointError as error:
            assert error.kind in ENDPOINT_KINDS
        else:
            assert reply.usage.tokens >= 0
            json.dumps(reply.message, ensure_ascii=False).encode("utf-8")


def test_the_quirks_of_servers_are_read() -> None:
    """Arguments may be an object, ids missing or repeated, text in parts or with half a surrogate pair."""
    message = {
        "content": [{"type": "text", "text": "a\ud800"}],
        "tool_calls": [
            {"id": identifier, "function": {"name": "run", "arguments": {"command": "ls"}}}
            for identifier in (None, "a", "a")
        ],
    }
    reply = complete(
        Answer(
            body=json.dumps({"choices": [{"message": message}], "usage": {"prompt_tokens": True}}).encode()
        )
    )
    assert reply.text == "a?"
    assert json.loads(reply.tool_calls[0].arguments) == {"command": "ls"}
    assert len({one.id for one in reply.tool_calls} - {""}) == 3
    assert reply.usage.estimated
    json.dumps(reply.message, ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize(
    "answer",
    [
        fail(429, "slow down", **{"Retry-After": "0.01"}),
        Answer(status=503, headers=SOON),
        Answer(resets=True),
        Answer("Lost", breaks=True),
        Answer(body=b"{}"),
    ],
)
@STREAMS
def test_temporary_failures_are_tried_again(answer: Answer, stream: bool, tmp_path: Path) -> None:
    """The second try brings the reply, and the log has both tries."""
    log = tmp_path / "deep" / "calls.jsonl"
    assert complete(answer, say("Here."), retries=1, log=log, stream=stream).text == "Here."
    first, second = [json.loads(line) for line in log.read_text().splitlines()]
    assert first["error"]["kind"] in ("rate limit", "server", "connection", "malformed")
    assert second["reply"]["content"] == "Here."
    assert second["seconds"] >= 0


@pytest.mark.parametrize(
    "answer",
    [
        fail(429, "come back tomorrow", **{"Retry-After": "9999"}),
        fail(429, "pay", "insufficient_quota"),
        fail(400, "no"),
        Answer(refusal="no"),
    ],
)
def test_failures_that_waiting_does_not_help_are_not_tried_again(answer: Answer) -> None:
    """One request is made, and its error is raised."""
    with ScriptedServer([answer, say("late")]) as server, pytest.raises(EndpointError):
        Endpoint("m", server.url).complete(HELLO)
    assert len(server.requests) == 1


def test_retries_are_bounded() -> None:
    """A call is tried again as often as `retries` says; then the last error is raised."""
    with (
        ScriptedServer(lambda _: fail(500, "oh", **SOON)) as server,
        pytest.raises(EndpointError, match="oh"),
    ):
        Endpoint("m", server.url, retries=2).complete(HELLO)
    assert len(server.requests) == 3


def test_a_stream_that_stops_is_incomplete() -> None:
    """A stream without a reason for its end is incomplete, even if the connection ended properly."""
    piece = {"choices": [{"delta": {"content": "Half"}}]}
    with pytest.raises(EndpointError, match="broke off") as caught:
        assemble([piece], 10.0)
    assert caught.value.kind == "connection"
    with pytest.raises(EndpointError, match="not over after 0 s"):
        assemble([piece], 0.0)
    with pytest.raises(EndpointError, match="longer than"):
        assemble(({"choices": [{"delta": {"content": "x" * 100_000}}]} for _ in range(1000)), 100.0)


@pytest.mark.parametrize(("budget", "calls"), [({"token_budget": 100}, 2), ({"money_budget": 0.0002}, 1)])
def test_budgets_end_the_calls(budget: dict[str, Any], calls: int) -> None:
    """The call that overdraws a budget is the last; each has 70 tokens, for 0.00025 US dollars."""
    with ScriptedServer(lambda _: Answer("a", usage=(60, 10))) as server:
        endpoint = Endpoint("gpt-4o-2024-08-06", server.url, **budget)
        for _ in range(calls):
            endpoint.complete(HELLO)
        with pytest.raises(EndpointError, match="is spent") as caught:
            endpoint.complete(HELLO)
    assert caught.value.kind == "budget"
    assert len(server.requests) == calls
    assert endpoint.spent.tokens == 70 * calls


def test_a_model_without_a_price(tmp_path: Path) -> None:
    """Its cost is unknown, not zero, and a budget cannot be kept; a file of prices helps."""
    with pytest.raises(EndpointError, match="has no price") as caught:
        Endpoint("mine", money_budget=1.0)
    assert caught.value.kind == "setup"
    with ScriptedServer([say("a"), say("b")]) as server:
        endpoint = Endpoint("mine", server.url)
        assert endpoint.complete(HELLO).usage.money is None
        assert endpoint.spent.money is None
        table = tmp_path / "prices.toml"
        table.write_text('[[price]]\nmodel="mine"\nprompt=1\ncompletion=2\ndate=2026-01-31\nnote="ours"\n')
        priced = Endpoint("mine", server.url, money_budget=1.0, prices=table)
        assert priced.complete(HELLO).usage.money
    assert read_prices(table).keys() > {"mine", "gpt-4o"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[[price]]\n",
        "price=3",
        '[[price]]\nmodel="a"\nprompt=-1\ncompletion=1\ndate=2026-01-31\nnote=""',
        "(",
    ],
)
def test_a_wrong_table_of_prices_is_named(text: str, tmp_path: Path) -> None:
    """The error names the table and the form of a row."""
    table = tmp_path / "prices.toml"
    table.write_text(text)
    with pytest.raises(EndpointError, match=r"prices\.toml .*a row is"):
        read_prices(table)


def test_the_key_is_nowhere(tmp_path: Path) -> None:
    """The key is neither in the log nor in an error, even if the server repeats it."""
    log = tmp_path / "calls.jsonl"
    error = failure(fail(401, f"Incorrect key {KEY}"), log=log)
    assert "[key]" in str(error)
    complete(say(f"Your key is {KEY}"), log=log)
    assert KEY not in f"{error!r}{log.read_text()}"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key or a wrong URL is named in the error; a server with a `base_url` needs no key."""
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert complete(say("Hello")).text == "Hello"
    with pytest.raises(EndpointError, match="no key in the environment variable OPENAI_API_KEY"):
        Endpoint("m").complete(HELLO)
    for url in ("localhost:8000", "http://", "http://me:secret@host/v1"):
        with pytest.raises(EndpointError, match="base_url") as caught:
            Endpoint("m", url)
        assert "secret" not in str(caught.value)


def test_connections_go_with_the_endpoint() -> None:
    """Connections are closed with the endpoint, also if it is part of a cycle, as in an error's traceback."""
    with ScriptedServer([say("Hello")]) as server:
        endpoint = Endpoint("gpt-4o", server.url)
        endpoint.complete(HELLO)
        client = endpoint._client
        endpoint.cycle = endpoint  # type: ignore[attr-defined]
        del endpoint
        gc.collect()
        assert client.is_closed()


def test_importing_is_light() -> None:
    """The package that makes the calls is imported at the first call."""
    code = "import mlrcbench.llm as llm, sys; llm.Endpoint('m'); print('openai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_script_calls_tools() -> None:
    """A script can ask for a tool in a short form."""
    reply = complete(call("run", command="ls"))
    assert json.loads(reply.tool_calls[0].arguments) == {"command": "ls"}


@STREAMS
def test_the_scripted_server_speaks_the_protocol(stream: bool) -> None:
    """The package's own types, which validate strictly, accept the server's answers."""
    with ScriptedServer([Answer("Hello", (("run", "{}"),))]) as server:
        client: Any = openai.OpenAI(base_url=server.url, _strict_response_validation=True, max_retries=0)
        made = client.chat.completions.create(model="m", messages=HELLO, stream=stream)
        pieces = list(made) if stream else [made]
        client.close()
    assert pieces[0].choices[0].finish_reason == (None if stream else "tool_calls")
    assert pieces[-1].usage.total_tokens > 0
