"""Tools follow from the actions alone, in every dialect; every call is a step, whatever it contains."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import gymnasium
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlrcbench
from mlrcbench.env.session import Session
from mlrcbench.errors import RegistryError
from mlrcbench.integrations.trl import environment
from mlrcbench.protocol import actions
from mlrcbench.protocol.tools import Dialect, to_form, tool_specs

SCHEMAS = {
    "json": "parameters",
    "openai": "parameters",
    "responses": "parameters",
    "anthropic": "input_schema",
    "gemini": "parameters_json_schema",
}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A session on the template, without an episode."""
    env = mlrcbench.make("_template", sandbox="process", records=tmp_path, budget={"steps": 4})
    with Session(env) as new_session:
        yield new_session


def _inner(spec: dict[str, Any]) -> dict[str, Any]:
    inner: dict[str, Any] = spec.get("function", spec)
    return inner


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_every_action_is_a_tool_that_accepts_its_own_example(dialect: Dialect) -> None:
    """Names, required arguments and examples agree with the actions."""
    specs = [_inner(spec) for spec in tool_specs(dialect)]
    assert [spec["name"] for spec in specs] == list(actions.ACTIONS)
    for spec in specs:
        cls = actions.ACTIONS[spec["name"]]
        schema = spec[SCHEMAS[dialect]]
        fields = {field.name: field for field in dataclasses.fields(cls)}
        assert set(schema["properties"]) == set(fields)
        assert set(schema["required"]) == {
            name for name, field in fields.items() if field.default is dataclasses.MISSING
        }
        assert all(one["description"] for one in schema["properties"].values())
        assert "error:" in spec["description"]
        form = actions.to_json(actions.example(cls))
        assert set(schema["required"]) <= set(form)
        assert actions.is_action(actions.parse(form))


def test_an_action_that_is_added_is_a_tool_in_every_dialect(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other code has to be changed."""

    @dataclasses.dataclass(frozen=True)
    class Ponder:
        """Think for a while."""

        hours: float = actions._argument("How long.", kind=float, example=2.5)

    ponder: Any = Ponder
    monkeypatch.setitem(actions.ACTIONS, "ponder", ponder)
    monkeypatch.setitem(actions._NAMES, ponder, "ponder")
    for dialect in get_args(Dialect):
        spec = _inner(tool_specs(dialect)[-1])
        assert spec["name"] == "ponder"
        assert spec[SCHEMAS[dialect]]["properties"]["hours"]["type"] == "number"
    assert environment("_template").ponder.__annotations__ == {"hours": float, "return": str}  # type: ignore[attr-defined]
    assert '"hours": 2.5' in actions.describe.__wrapped__()
    assert actions.parse(to_form("ponder", '{"hours": 1}')) == ponder(1)


def test_an_unknown_dialect_is_an_error() -> None:
    """The error names the nearest dialect."""
    with pytest.raises(RegistryError, match="anthropic"):
        tool_specs("antropic")  # type: ignore[arg-type]


def test_two_calls_share_no_object() -> None:
    """A change by one framework does not reach another."""
    tool_specs()[0]["parameters"]["properties"].clear()
    assert tool_specs()[0]["parameters"]["properties"]


@given(name=st.text(), arguments=st.one_of(st.text(), st.none(), st.dictionaries(st.text(), st.integers())))
def test_whatever_a_model_writes_is_an_action_or_an_action_error(name: str, arguments: Any) -> None:
    """No other exception is raised."""
    try:
        parsed = actions.parse(to_form(name, arguments))
    except mlrcbench.ActionError:
        return
    assert actions.is_action(parsed)


def test_an_argument_cannot_change_which_tool_is_called() -> None:
    """An argument named "action" is ignored."""
    assert to_form("run", {"action": "submit", "command": "true"})["action"] == "run"  # type: ignore[index]


def test_calls_are_steps(session: Session) -> None:
    """They give the text, the errors and the end of `step`."""
    assert "## Actions" in session.begin(seed=0)
    first = session.call("run", '{"command": "echo out"}')
    assert "out" in str(first)
    assert not first.is_error
    assert not first.done
    wrong = session.call("run", "{")
    assert wrong.is_error
    assert "not valid JSON" in wrong.text
    last = session.call("submit")
    assert last.terminated
    assert session.done
    assert session.reward == last.reward
    assert session.test_score is not None
    assert session.calls == 3


def test_a_session_answers_before_the_beginning_and_after_the_end(session: Session) -> None:
    """The answer is an error that a model can read, and nothing is raised."""
    assert "begin" in session.call("submit").text
    session.begin()
    for _ in range(4):
        session.call("evaluate")
    assert session.last is not None
    assert session.last.truncated
    again = session.call("run", {"command": "true"})
    assert again.is_error
    assert again.truncated
    assert "over" in again.text
    session.close()
    session.close()
    assert session.call("submit").is_error


def test_calls_from_several_threads_are_made_one_after_the_other(session: Session) -> None:
    """Each call is one step."""
    session.begin()
    threads = [threading.Thread(target=session.call, args=("run", {"command": "true"})) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert session.calls == 4
    assert session.done


def test_without_an_episode_call_tool_raises_as_step_does() -> None:
    """The environment itself keeps Gymnasium's contract."""
    with (
        mlrcbench.make("_template", sandbox="process") as env,
        pytest.raises(gymnasium.error.ResetNeeded),
    ):
        env.call_tool("submit")
