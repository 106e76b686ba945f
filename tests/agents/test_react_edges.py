"""The agent `react` with answers that are cut off, thoughts, and fields that servers want back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import mlrcbench
from mlrcbench.agents import play
from mlrcbench.agents.history import History
from mlrcbench.agents.prompts import CALL_CUT_OFF
from mlrcbench.agents.react import ReactAgent
from mlrcbench.agents.styles import STYLES, Style, read_wishes
from mlrcbench.errors import EndpointError
from mlrcbench.llm import Endpoint, Reply, ToolCall, Usage, estimate_tokens
from mlrcbench.testing.endpoint import Answer, ScriptedServer, call, fail, say
from tests.agents.test_react import INFO, agent_at, in_style, observe

PART = '{"path": "a.py", "text": "print(1)'


@pytest.mark.parametrize("style", ["tools", "mlab"])
def test_a_call_that_was_cut_off_is_said_to_be_so(style: Style, env: mlrcbench.ResearchEnv) -> None:
    """The model reads that its answer was too long, and not that its JSON is invalid."""
    calls = (("run", '{"command": "echo one"}'), ("write_file", PART))
    cut = Answer(calls=calls, finish="length")
    if style == "mlab":
        cut = Answer(f"Action: write_file\nAction Input: {PART}", finish="length")
    with ScriptedServer([cut, in_style(style, "submit")]) as server:
        assert play(env, agent_at(server, style=style)).terminated
    read = str(server.requests[-1]["messages"][-1]["content"])
    assert read.startswith(f"{CALL_CUT_OFF}\n[")
    assert "JSON" not in read
    if style == "tools":
        assert "one" in server.requests[-1]["messages"][-2]["content"]
        assert "cut off" not in server.requests[-1]["messages"][-2]["content"]


def test_a_call_without_its_arguments_was_cut_off_as_well(env: mlrcbench.ResearchEnv) -> None:
    """Beside what is missing, the model reads why; an action that succeeds is not blamed."""
    script = [
        Answer(calls=(("run", ""),), finish="length"),
        Answer(calls=(("evaluate", ""),), finish="length"),
        call("submit"),
    ]
    with ScriptedServer(script) as server:
        play(env, agent_at(server))
    read = [one["content"] for one in server.requests[-1]["messages"] if one["role"] == "tool"]
    assert "needs the argument 'command'" in read[0]
    assert "It was cut off at the limit" in read[0]
    assert "cut off" not in read[1]


@pytest.mark.parametrize("style", STYLES)
def test_an_unclosed_thought_holds_no_action(style: Style) -> None:
    """The agent is reminded; the next answer counts."""
    draft = in_style(style, "submit").text or "I could call submit"
    with ScriptedServer([Answer(f"<think>{draft}", finish="length"), in_style(style, "evaluate")]) as server:
        assert agent_at(server, style=style).act(observe("Go."), INFO) == {"action": "evaluate"}
    assert "cut off" in server.requests[-1]["messages"][-1]["content"]
    assert server.requests[-1]["messages"][-2]["content"]


@pytest.mark.parametrize("style", STYLES)
def test_line_breaks_in_strings_are_taken_in_all_styles(style: Style, env: mlrcbench.ResearchEnv) -> None:
    """Models forget to escape them."""
    arguments = '{"path": "a.txt", "text": "one\n\ttwo\n"}'
    answer = {
        "tools": Answer(calls=(("write_file", arguments),)),
        "text": say(f'```action\n{{"action": "write_file", {arguments[1:]}\n```'),
        "mlab": say(f"Action: write_file\nAction Input: {arguments}"),
    }[style]
    read = in_style(style, "read_file", path="a.txt")
    with ScriptedServer([answer, read, in_style(style, "submit")]) as server:
        play(env, agent_at(server, style=style))
    assert "     2  \ttwo" in server.requests[-1]["messages"][-1]["content"]
    for message in server.requests[-1]["messages"]:
        for one in message.get("tool_calls", ()):
            json.loads(one["function"]["arguments"])
    assert mlrcbench.protocol.actions.parse(f'{{"action": "write_file", {arguments[1:]}') == (
        mlrcbench.WriteFile("a.txt", "one\n\ttwo\n")
    )


def demanding(complaint: str, lacks: Callable[[dict[str, Any]], bool], extra: Any, call_extra: Any) -> Any:
    """A server that refuses a conversation without the fields that it sent."""

    def respond(request: dict[str, Any]) -> Answer:
        answers = [one for one in request["messages"] if one["role"] == "assistant"]
        if any(lacks(one) for one in answers):
            return fail(400, complaint)
        message: dict[str, Any] = {"content": '```action\n{"action": "run", "command": "ls"}\n```', **extra}
        if "tools" in request:
            function = {"name": "run", "arguments": '{"command": "ls"}'}
            message["tool_calls"] = [{"id": f"c{len(answers)}", "function": function, **call_extra}]
        return Answer(body=json.dumps({"choices": [{"message": message}]}).encode())

    return respond


@pytest.mark.parametrize(
    ("style", "server"),
    [
        *(
            (
                style,
                demanding(
                    "The `reasoning_content` in the thinking mode must be passed back to the API.",
                    lambda one: "reasoning_content" not in one,
                    {"reasoning_content": "Hm."},
                    {},
                ),
            )
            for style in ("tools", "text")
        ),
        (
            "tools",
            demanding(
                "Function call is missing a thought_signature",
                lambda one: "extra_content" not in one["tool_calls"][0],
                {},
                {"extra_content": {"google": {"thought_signature": "abc"}}},
            ),
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_servers_get_back_what_they_demand(style: Style, server: Any, stream: bool, tmp_path: Any) -> None:
    """An episode with a server that thinks is played to its end."""
    with (
        ScriptedServer(server) as scripted,
        mlrcbench.make("_template", budget={"steps": 4}, records=tmp_path) as env,
    ):
        agent = ReactAgent(Endpoint("m", scripted.url, retries=0, stream=stream), style=style)
        assert play(env, agent, seed=0).truncated
    assert len(scripted.requests) == 4


def test_fields_that_go_back_do_not_fill_the_context() -> None:
    """A long thought is cut, and a long signature is left out."""
    history = History("s", "f", 2_000)
    message = {"role": "assistant", "content": "a", "thoughts": "word " * 9_000, "signature": "x" * 90_000}
    history.answer({**message, "short": "abc", "parts": [{"text": "y" * 90_000}]})
    kept = history.turns[0][0]
    assert kept.keys() == {"role", "content", "thoughts", "short"}
    assert "characters left out" in kept["thoughts"]
    assert estimate_tokens(history.messages) < 2_000


def test_messages_without_content_are_marked() -> None:
    """Servers refuse an empty message of the assistant."""
    history = History("s", "f", 2_000)
    for style in STYLES:
        history.answer(read_wishes(style, Reply("", (), Usage(), "stop", {}))[1])
    assert [turn[0]["content"] for turn in history.turns] == ["(no answer)"] * 3


def test_calls_keep_their_fields_when_they_are_corrected() -> None:
    """A name and arguments that servers would refuse are replaced, and nothing else."""
    broken = ToolCall("a", "no such!", "{", {"extra_content": {"a": 1}, "function": {"signature": "x"}})
    _, message = read_wishes("tools", Reply("", (broken,), Usage(), "stop", {"reasoning": "Hm."}))
    assert message["reasoning"] == "Hm."
    assert message["tool_calls"] == [
        {
            "id": "a",
            "type": "function",
            "extra_content": {"a": 1},
            "function": {"signature": "x", "name": "no_such_", "arguments": '{"malformed": "{"}'},
        }
    ]


def test_a_rate_limit_in_tokens_does_not_shorten_the_conversation() -> None:
    """It is tried again as it was, and then the infrastructure has failed."""
    words = "Request too large on tokens per minute (TPM): Limit 8000, Requested 9000"
    with (
        ScriptedServer(lambda _: fail(413, words, "rate_limit_exceeded", Retry_After="0.01")) as server,
        pytest.raises(EndpointError) as caught,
    ):
        agent_at(server, retries=1).act(observe("Go. " * 9_000), INFO)
    assert caught.value.kind == "rate limit"
    assert server.requests[0] == server.requests[1]
