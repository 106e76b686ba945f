"""JSON as models write it: cut off, encoded twice, with line breaks in strings."""

from __future__ import annotations

import json

import pytest

from mlrcbench.errors import ActionError
from mlrcbench.protocol.actions import parse
from mlrcbench.protocol.tools import to_form


def test_every_beginning_of_an_action_is_said_to_end_too_early() -> None:
    """A model reads that its answer may have been cut off; another fault is not called so."""
    whole = json.dumps(
        {"action": "write_file", "text": 'é\n"', "n": [1, -2.5e-7, True, False, None], "o": {}}
    )
    for end in range(1, len(whole)):
        with pytest.raises(ActionError, match="it ends too early"):
            parse(whole[:end])
    for text in (
        '{"action": run}',
        "{'action': 1}",
        '{"action": "run" "x": 1}',
        whole + " x",
        "run ls",
        '{"a": "\\q"}',
    ):
        with pytest.raises(ActionError, match=r"not valid JSON \(") as caught:
            parse(text)
        assert "ends too early" not in str(caught.value)


def test_arguments_that_are_encoded_twice_are_read() -> None:
    """Some servers do so; line breaks in strings need not be escaped."""
    assert to_form("run", json.dumps('{"command": "ls"}')) == {"command": "ls", "action": "run"}
    assert to_form("run", '{"command": "a\n\tb"}') == {"command": "a\n\tb", "action": "run"}
    assert to_form("submit", " \n") == {"action": "submit"}
