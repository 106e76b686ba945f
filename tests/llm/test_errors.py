"""Failures as servers word them: one row of `errors.toml` each, sent by a real server."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlrcbench.errors import EndpointError
from mlrcbench.llm import Endpoint
from mlrcbench.llm.wordings import said
from mlrcbench.testing.endpoint import Answer, ScriptedServer

HELLO = [{"role": "user", "content": "Hello"}]
ROWS = tomllib.loads(Path(__file__).with_name("errors.toml").read_text("utf-8"))["error"]
TABLE = pytest.mark.parametrize("row", ROWS, ids=[f"{row['server']} {row['year']}" for row in ROWS])


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-secret-of-the-tests")


def failure(answer: Answer, **options: Any) -> EndpointError:
    """The error of one call, without retries."""
    with ScriptedServer([answer]) as server, pytest.raises(EndpointError) as caught:
        Endpoint("m", server.url, **{"retries": 0, "timeout": 10.0, **options}).complete(HELLO)
    return caught.value


@TABLE
def test_each_wording_has_its_kind(row: dict[str, Any]) -> None:
    """The kind is that of the row, and the text of the server is shown."""
    error = failure(Answer(status=row.get("status", 400), body=row["body"].encode()))
    assert (error.kind, row.get("shows", "") in str(error)) == (row["kind"], True), str(error)
    assert len(str(error)) < 800


@pytest.mark.parametrize("form", ["data: {}\n\n", "event: error\ndata: {}\n\n", "{}\n"])
def test_a_failure_within_a_stream_has_the_same_kind(form: str) -> None:
    """After the first piece, with or without a name of the event."""
    piece = 'data: {"choices": [{"delta": {"content": "Half"}}]}\n\n'
    for row in ROWS[:12]:
        if row["body"].startswith("{"):
            body = f"{piece}{form.replace('{}', row['body'])}data: [DONE]\n\n"
            headers = {"Content-Type": "text/event-stream"}
            assert failure(Answer(body=body.encode(), headers=headers), stream=True).kind == row["kind"]


def test_a_text_without_end_is_shown_in_part() -> None:
    """Pages, lists and deep nesting of any size have a short message."""
    deep = "[" * 5_000 + "]" * 5_000
    for body in ("x" * 5_000_000, "<html>" * 500_000, json.dumps({"error": ["y" * 99] * 9_999}), deep):
        error = failure(Answer(status=400, body=body.encode()))
        assert error.kind == "request"
        assert len(str(error)) < 800
    assert "\x1b" not in str(failure(Answer(status=400, body=b"a\x1b[31mred\x00")))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "detail", "code", "loc", "status", "x"]), inner
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_body_says_something(body: Any) -> None:
    """No shape is too strange, and what it says is one line."""
    heard = said(body)
    assert "\n" not in heard.text + heard.codes
    assert isinstance(heard.is_overflow or heard.is_rate or heard.is_payment or heard.is_policy, bool)
