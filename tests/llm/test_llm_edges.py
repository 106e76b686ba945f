"""The client at its edges: keys, fields that go back, requests and answers that nobody has foreseen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlrcbench.errors import EndpointError
from mlrcbench.llm import Endpoint
from mlrcbench.testing.endpoint import Answer, ScriptedServer, fail, say
from tests.llm.test_llm import HELLO, KEY, STREAMS, complete, failure


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.mark.parametrize("key", ["“sk-a-secret-key”", "sk-schlüssel-123", "sk-a\u200bbcdefgh", "two words12"])
def test_a_key_that_no_header_can_hold(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable and the character, and does not show the key."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(EndpointError, match=r"OPENAI_API_KEY has .* copy it again") as caught:
        complete(say("never"))
    assert caught.value.kind == "setup"
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://host:port/v1", "http://[::1/v1", "http://a b/v1", "http://host:99999999"]
)
def test_a_url_that_cannot_be_used(url: str) -> None:
    """It is an error of the setup, or of the connection, and not one of a package below."""
    with pytest.raises(EndpointError) as caught:
        Endpoint("m", url, retries=0, timeout=1.0).complete(HELLO)
    assert caught.value.kind in ("setup", "connection")


@STREAMS
def test_unknown_fields_go_back(stream: bool) -> None:
    """A message is sent back with every field that came with it, as some servers demand."""
    call_fields = {"extra_content": {"google": {"thought_signature": "abc"}}}
    function = {"name": "run", "arguments": "{}", "signature": "xyz"}
    message = {
        "reasoning_content": "Let me see.",
        "reasoning_details": [{"type": "reasoning.text", "text": "Let me see.", "index": 0}],
        "annotations": None,
        "tool_calls": [{"id": "a", "type": "function", "function": function, **call_fields}],
    }
    body = {"choices": [{"message": message, "finish_reason": "tool_calls"}]}
    with ScriptedServer([Answer(body=json.dumps(body).encode()), say("b")]) as server:
        endpoint = Endpoint("m", server.url, stream=stream)
        endpoint.complete([*HELLO, endpoint.complete(HELLO).message])
    del message["annotations"]
    assert server.requests[1]["messages"][1] == {"role": "assistant", "content": None, **message}


def test_a_field_that_a_server_refuses_is_left_out() -> None:
    """Some servers refuse a field that they sent; then it is not sent again, by this endpoint."""

    def respond(request: dict[str, Any]) -> Answer:
        if any("reasoning" in message for message in request["messages"]):
            return fail(400, "'messages.1': property 'reasoning' is unsupported")
        body = {"choices": [{"message": {"content": "a", "reasoning": "Hm.", "kept": 1}}]}
        return Answer(body=json.dumps(body).encode())

    with ScriptedServer(respond) as server:
        endpoint = Endpoint("m", server.url, retries=0)
        message = endpoint.complete(HELLO).message
        assert message["reasoning"] == "Hm."
        for _ in range(2):
            assert endpoint.complete([*HELLO, message]).text == "a"
    assert len(server.requests) == 4
    assert server.requests[-1]["messages"][1] == {"role": "assistant", "content": "a", "kept": 1}


def test_fields_that_no_server_could_read_are_not_sent() -> None:
    """Halves of surrogate pairs, infinite numbers and deep nesting do not make the next call fail."""
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    message = {"content": "a", "text\ud800": "b\ud800", "number": float("inf"), "deep": deep}
    body = json.dumps({"choices": [{"message": message}]}).encode()
    with ScriptedServer([Answer(body=body), say("b")]) as server:
        endpoint = Endpoint("m", server.url, retries=0)
        endpoint.complete([*HELLO, endpoint.complete(HELLO).message])
    assert server.requests[1]["messages"][1]["text?"] == "b?"


def test_a_conversation_that_is_no_json_is_named() -> None:
    """Nothing is sent."""
    for content in (object(), float("nan"), "\ud800"):
        with ScriptedServer([say("a")]) as server, pytest.raises(EndpointError, match="as JSON") as caught:
            Endpoint("m", server.url).complete([{"role": "user", "content": content}])
        assert (caught.value.kind, server.requests) == ("request", [])


@pytest.mark.parametrize("error", [KeyError("a"), TypeError("b"), IndexError("c"), OverflowError("d")])
def test_what_nobody_has_foreseen_is_a_failure(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again, and then raised as the client's own error."""

    def odd(*_: Any) -> Any:
        raise error

    monkeypatch.setattr("mlrcbench.llm.client.read_reply", odd)
    assert failure(say("a")).kind == "malformed"


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The error says which file."""
    (tmp_path / "file").write_text("")
    error = failure(say("a"), log=tmp_path / "file" / "calls.jsonl")
    assert error.kind == "setup"
    assert "calls.jsonl cannot be written" in str(error)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("stop", "stop"),
        (None, ""),
    ],
)
def test_reasons_for_the_end_have_one_name(said: Any, kept: str) -> None:
    """Servers name the limit of tokens in their own ways."""
    body = {"choices": [{"message": {"content": "a"}, "finish_reason": said}]}
    assert complete(Answer(body=json.dumps(body).encode())).finish == kept
    body["choices"][0]["finish_reason"] = "SAFETY"
    assert failure(Answer(body=json.dumps(body).encode())).kind == "refusal"
