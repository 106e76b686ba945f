"""Actions are parsed strictly; an error is an `ActionError` and never anything worse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlrcbench.errors import ActionError
from mlrcbench.protocol.actions import (
    ACTIONS,
    MAX_JSON_CHARS,
    UNTIL,
    EditFile,
    Evaluate,
    KillJob,
    ReadFile,
    Run,
    StartJob,
    Submit,
    WaitJob,
    WriteFile,
    describe,
    parse,
    recordable,
    to_json,
)

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)
whole = st.integers(1, 10_000)
every_action = st.one_of(
    st.builds(Run, text, st.none() | st.floats(0.001, 1e6)),
    st.builds(StartJob, text, st.none() | st.floats(0.001, 1e6)),
    st.builds(
        WaitJob,
        whole,
        st.sampled_from(UNTIL),
        st.none() | text,
        st.none() | st.floats(0.001, 1e6),
        st.none() | st.floats(0.001, 1e6),
    ),
    st.builds(KillJob, whole),
    st.builds(ReadFile, text, whole, st.none() | whole),
    st.builds(WriteFile, text, text),
    st.builds(EditFile, text, text, text),
    st.just(Evaluate()),
    st.just(Submit()),
)
keys = ["action", "path", "text", "command", "id", "until", "pattern", "x"]
json_value: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@given(every_action)
def test_an_action_survives_its_json_form(action: Any) -> None:
    """The form and its text are parsed to the same action."""
    assert parse(to_json(action)) == action
    assert parse(json.dumps(to_json(action))) == action
    assert parse(action) == action


@given(st.dictionaries(st.sampled_from(keys), json_value))
def test_any_json_object_is_parsed_or_refused(form: dict[str, Any]) -> None:
    """No object, however odd, raises anything but an `ActionError`."""
    form["action"] = form.get("action", "write_file")
    try:
        parse(form)
    except ActionError as error:
        assert 0 < len(str(error)) < 1000


@given(st.text(max_size=500))
def test_any_text_is_parsed_or_refused(source: str) -> None:
    """No text raises anything but an `ActionError`."""
    try:
        parse(source)
    except ActionError as error:
        assert 0 < len(str(error)) < 1500


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"action": "runn", "command": "ls"}, "Did you mean 'run'?"),
        ({"command": "ls"}, "unknown action null"),
        ({"action": "run"}, "needs the argument 'command'"),
        ({"action": "run", "command": "ls", "cwd": "/"}, "no argument 'cwd'"),
        ({"action": "run", "command": 3}, "must be a string, not int"),
        ({"action": "run", "command": "ls", "timeout": -1}, "above 0"),
        ({"action": "run", "command": "ls", "timeout": True}, "above 0"),
        ({"action": "run", "command": "ls", "timeout": float("nan")}, "above 0"),
        ({"action": "read_file", "path": "a", "start": 1.5}, "whole number"),
        ({"action": "write_file", "path": "a" * 5000, "text": ""}, "at most 4,096"),
        ({"action": "write_file", "path": "a", "text": "a" * 1_000_001}, "at most 1,000,000"),
        ({"action": "write_file", "path": "a", "text": "\ud800"}, "not valid Unicode"),
        ('{"action": "run", "command": "\\ud800"}', "not valid Unicode"),
        ({"action": "run", "command": "echo \0"}, "NUL"),
        ({"action": "read_file", "path": "a\0b"}, "NUL"),
        ({"action": "wait_job"}, "needs the argument 'id'"),
        ({"action": "wait_job", "id": "job-1"}, "whole number"),
        ({"action": "wait_job", "id": 1, "until": "exits"}, "Did you mean 'exit'?"),
        ({"action": "wait_job", "id": 1, "pattern": "a" * 1001}, "at most 1,000"),
        ({"action": "wait_job", "id": 1, "max_seconds": 0}, "above 0"),
        ("[1]", "must be a JSON object"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("1" * 5000, "must be a JSON object"),
        (" " * (MAX_JSON_CHARS + 1), "characters"),
        (b"ls", "must be a JSON object"),
        (None, "must be a JSON object"),
    ],
)
def test_errors_say_what_is_wrong(form: Any, message: str) -> None:
    """The error names the fault and what was expected."""
    with pytest.raises(ActionError) as caught:
        parse(form)
    assert message in str(caught.value)


def test_every_action_is_described() -> None:
    """The description for agents holds every action and argument."""
    description = describe()
    for name, cls in ACTIONS.items():
        assert f'"action": "{name}"' in description
        assert (cls.__doc__ or "").strip() in description


def _nested(levels: int) -> object:
    value: object = 0
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [_nested(150), _nested(900), [0] * 100_000, {str(key): 0 for key in range(20_000)}, "x" * 14_000_000],
    ids=["deep", "deeper", "list", "object", "text"],
)
def test_what_no_reader_of_records_would_accept_is_not_recorded(value: object) -> None:
    """An action that comes as an object may hold anything; a record of it must still be readable."""
    assert recordable({"action": "run", "command": value}) is None


def test_the_longest_legal_action_is_recorded() -> None:
    """Whatever its characters are."""
    action = EditFile("method.py", "\x01" * 1_000_000, "\x02" * 1_000_000)
    assert parse(action) == action
    assert recordable(action) == to_json(action)
