"""Actions: parsed strictly, and never anything worse than an `ActionError`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlrcbench.actions import (
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
    to_json,
)
from mlrcbench.errors import ActionError

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
    """Form and text lead back to the same action."""
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
    ("form", "words"),
    [
        ({"action": "runn", "command": "ls"}, "Did you mean 'run'?"),
        ({"command": "ls"}, "unknown action None"),
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
        ("1" * 5000, "not valid JSON"),
        (" " * (MAX_JSON_CHARS + 1), "characters"),
        (b"ls", "must be a JSON object"),
        (None, "must be a JSON object"),
    ],
)
def test_what_is_wrong_is_said(form: Any, words: str) -> None:
    """The error names the fault and what was expected."""
    with pytest.raises(ActionError) as caught:
        parse(form)
    assert words in str(caught.value)


def test_every_action_is_described() -> None:
    """The description for agents holds every action and argument."""
    words = describe()
    for name, cls in ACTIONS.items():
        assert f'"action": "{name}"' in words
        assert (cls.__doc__ or "").strip() in words
