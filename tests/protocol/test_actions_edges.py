"""Actions at the edges of what is taken."""

from __future__ import annotations

from typing import Any

import pytest

from mlrcbench import KillJob, ReadFile, Run, WaitJob, WriteFile
from mlrcbench.errors import ActionError
from mlrcbench.protocol.actions import (
    MAX_COMMAND_BYTES,
    MAX_JSON_CHARS,
    MAX_PATH_CHARS,
    MAX_TEXT_CHARS,
    parse,
    recordable,
    replayable,
)


@pytest.mark.parametrize("number", [0, -1, 2**53 + 1, True, 1.5, 10**400, float("inf"), float("nan")])
@pytest.mark.parametrize("action", ["wait_job", "kill_job"])
def test_a_jobs_id_is_a_whole_number_from_one(action: str, number: Any) -> None:
    """Neither 0 nor a number that JSON does not carry exactly, nor a truth value."""
    with pytest.raises(ActionError, match="whole number"):
        parse({"action": action, "id": number})


@pytest.mark.parametrize("number", [1, 2**53])
def test_the_first_and_the_last_number_are_taken(number: int) -> None:
    """As a job's id, and as a line."""
    assert parse({"action": "wait_job", "id": number}) == WaitJob(number)
    assert parse({"action": "kill_job", "id": number}) == KillJob(number)
    assert parse({"action": "read_file", "path": "a", "start": number}) == ReadFile("a", number)


@pytest.mark.parametrize(
    ("action", "field", "most"),
    [
        ("run", "command", MAX_COMMAND_BYTES),
        ("read_file", "path", MAX_PATH_CHARS),
        ("write_file", "text", MAX_TEXT_CHARS),
    ],
)
def test_a_text_may_have_as_many_bytes_as_is_said(action: str, field: str, most: int) -> None:
    """The limit itself is taken, a byte more is not; bytes count, not characters."""
    form = {"action": action, **({"path": "a"} if action == "write_file" else {})}
    assert getattr(parse({**form, field: "x" * most}), field) == "x" * most
    for text in ("x" * (most + 1), "é" * (most // 2 + 1)):
        with pytest.raises(ActionError, match="at most"):
            parse({**form, field: text})


def test_a_nul_is_taken_in_a_text_only() -> None:
    """A file may hold any character; a path and a command may not."""
    assert parse({"action": "write_file", "path": "a", "text": "a\0b"}) == WriteFile("a", "a\0b")
    for form in ({"action": "run", "command": "a\0b"}, {"action": "write_file", "path": "a\0b", "text": ""}):
        with pytest.raises(ActionError, match="NUL"):
            parse(form)


def test_a_timeout_is_above_zero() -> None:
    """However little."""
    assert parse({"action": "run", "command": "a", "timeout": 1e-9}) == Run("a", 1e-9)
    for seconds in (0, 0.0, -1e-9, float("inf")):
        with pytest.raises(ActionError, match="above 0"):
            parse({"action": "run", "command": "a", "timeout": seconds})


def test_the_longest_text_of_an_action_is_read() -> None:
    """A character more is refused by its length, before it is parsed."""
    form = '{"action": "submit"}'
    parse(form + " " * (MAX_JSON_CHARS - len(form)))
    with pytest.raises(ActionError, match="characters"):
        parse(form + " " * (MAX_JSON_CHARS - len(form) + 1))


def test_a_text_too_long_to_record_is_answered_alike() -> None:
    """Its length is recorded; the replay plays as many blanks, and gets the same answer."""
    text = "x" * (MAX_JSON_CHARS + 5)
    assert recordable("x" * MAX_JSON_CHARS) == "x" * MAX_JSON_CHARS
    assert recordable(text) == {"characters": MAX_JSON_CHARS + 5}
    again = replayable(recordable(text))
    answers = []
    for source in (text, again):
        with pytest.raises(ActionError) as caught:
            parse(source)
        answers.append(str(caught.value))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("field", "sent", "number"),
    [
        ("start", "12", 12),
        ("start", "+12", 12),
        ("start", "12.0", 12),
        ("start", 12.0, 12),
        ("timeout", "60", 60),
        ("timeout", " 0.5 ", 0.5),
        ("timeout", "1e2", 100.0),
    ],
)
def test_a_number_may_be_written_as_text(field: str, sent: Any, number: float) -> None:
    """Where it plainly means a number; many models quote their numbers."""
    form = {"path": "a", "start": sent} if field == "start" else {"command": "a", "timeout": sent}
    name = "read_file" if field == "start" else "run"
    taken = getattr(parse({"action": name, **form}), field)
    assert (taken, type(taken) is int) == (number, isinstance(number, int))


_HUGE = "1" + "0" * 400


@pytest.mark.parametrize("name", ["run", "start_job", "wait_job", "kill_job", "read_file"])
@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (_HUGE, "1000000"),
        (f"-{_HUGE}", "-100000"),
        ("1" * 5000, "1111111"),
        ("1e400", "Infinity"),
        ("-Infinity", "-Infinity"),
        ("NaN", "NaN"),
        ("true", "true"),
        ('"60s"', "'60s'"),
        ('"1_0"', "'1_0'"),
        ('"inf"', "'inf'"),
        (f'"{_HUGE}"', "'1000000"),
        ("[1]", "[1]"),
        ('{"a": 1}', '{"a": 1}'),
        ('"\\ud800"', "'\\ud800'"),
    ],
)
def test_what_is_no_number_is_shown_as_it_was_sent(name: str, sent: str, shown: str) -> None:
    """In JSON, so that `1` and `"1"` look different, and cut; a number of any length is only refused."""
    rest, fields = {
        "run": ('"command": "ls"', ("timeout",)),
        "start_job": ('"command": "ls"', ("timeout",)),
        "wait_job": ('"until": "exit"', ("id", "seconds", "max_seconds")),
        "kill_job": ('"action": "kill_job"', ("id",)),
        "read_file": ('"path": "a"', ("start", "end")),
    }[name]
    for field in fields:
        others = "" if field == "id" or name != "wait_job" else ', "id": 1'
        with pytest.raises(ActionError) as caught:
            parse(f'{{"action": "{name}", {rest}{others}, "{field}": {sent}}}')
        assert f"not {shown}" in str(caught.value)
        assert len(str(caught.value)) < 200


def test_numbers_of_any_size_are_refused_anywhere() -> None:
    """Also those that only a Python object can hold, as an action's name, a key or a text."""
    huge = 10**5000
    for form in (
        {"action": huge},
        {"action": "run", huge: 1},
        {"action": "run", "command": huge},
        {"action": "run", "command": "ls", "timeout": huge},
        {"action": "kill_job", "id": huge},
        huge,
    ):
        with pytest.raises(ActionError):
            parse(form)  # type: ignore[arg-type]
        recordable(form)
