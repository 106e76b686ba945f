"""The agent `react`, against a server that speaks the real protocol."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlrcbench
from mlrcbench.agents import play
from mlrcbench.agents.history import History
from mlrcbench.agents.named import LlmOptions, check_name, make_agent, react_name
from mlrcbench.agents.prompts import LOST, REMINDERS, SUMMARY
from mlrcbench.agents.react import CALLS, ReactAgent
from mlrcbench.agents.styles import STYLES, Style, read_wishes
from mlrcbench.cli import main
from mlrcbench.errors import EndpointError, RegistryError, RunError
from mlrcbench.llm import Endpoint, Reply, ToolCall, Usage, estimate_tokens
from mlrcbench.runs import Plan
from mlrcbench.runs.plan import read_plan
from mlrcbench.testing.endpoint import Answer, ScriptedServer, call, fail, say

METHOD = mlrcbench.get_competition("_template").overlay("reference")["method.py"]
INFO: dict[str, Any] = {}
KEY = "sk-a-secret-of-the-tests"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def in_style(style: Style, name: str, **arguments: Any) -> Answer:
    """A model's answer that asks for an action in a style."""
    if style == "tools":
        return call(name, **arguments)
    if style == "text":
        return say(f"Now this.\n\n```action\n{json.dumps({'action': name, **arguments})}\n```")
    fields = ("Reflection", "Research Plan and Status", "Fact Check", "Thought")
    thoughts = "\n".join(f"{field}: something about it" for field in fields)
    return say(f"{thoughts}\nAction: {name}\nAction Input: {json.dumps(arguments)}\nObservation: made up")


def improving(style: Style) -> list[Answer]:
    """An episode that looks around, replaces the method by a better one, measures it, and submits."""
    return [
        in_style(style, "run", command="cat method.py; env; tr '\\0' '\\n' < /proc/$PPID/environ"),
        in_style(style, "write_file", path="method.py", text=METHOD),
        in_style(style, "evaluate"),
        in_style(style, "submit"),
    ]


def observe(text: str) -> dict[str, Any]:
    """The part of an observation that the agent reads."""
    return {"text": text}


def agent_at(server: ScriptedServer, **options: Any) -> ReactAgent:
    """An agent whose model is behind a server."""
    endpoint = {name: options.pop(name) for name in ("token_budget", "retries", "timeout") if name in options}
    return ReactAgent(Endpoint("m", server.url, **endpoint), **options)


@pytest.mark.parametrize("style", STYLES)
def test_an_episode_that_improves(style: Style, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command plays it in each style: the score rises, calls are with the record, the key is nowhere."""
    with ScriptedServer(improving(style)) as server:
        options = ["--agent", "react", "--model", "gpt-4o", "--base-url", server.url, "--style", style]
        status = main(["run", "_template", *options, "--records", str(tmp_path), "--quiet"])
    printed = capsys.readouterr().out
    assert status == 0
    assert "US dollars" in printed
    (folder,) = tmp_path.iterdir()
    record = mlrcbench.read_record(folder)
    assert [row.action["action"] for row in record.steps] == [
        "run",
        "write_file",
        "evaluate",
        "submit",
    ]
    assert (record.evaluations[-1].score.improvement or 0.0) > 0.9
    calls = [json.loads(line) for line in (folder / CALLS).read_text().splitlines()]
    assert len(calls) == 4
    assert calls[-1]["request"]["messages"] == server.requests[-1]["messages"]
    everything = "".join(path.read_text("utf-8", "replace") for path in folder.rglob("*") if path.is_file())
    assert KEY not in everything + printed
    assert "made up" not in json.dumps(server.requests)
    results = [one["content"] for one in server.requests[-1]["messages"] if one["role"] in ("tool", "user")]
    assert "Heights at" in results[1]
    assert "dev: root mean squared error" in results[3]


def test_a_run_has_its_costs_in_its_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run with --out may have agents of two styles, one with an idea; results have tokens and money."""
    idea = tmp_path / "straight.txt"
    idea.write_text("The points lie on a line: fit one.")

    def by_prompt(request: dict[str, Any]) -> Answer:
        said: int = sum(message["role"] == "assistant" for message in request["messages"])
        script = improving("tools" if "tools" in request else "text")
        return script[said]

    with ScriptedServer(by_prompt) as server:
        options = ["--model", "gpt-4o", "--base-url", server.url, "--idea", str(idea), "--money-budget", "1"]
        agents = ["react", "react-text:gpt-4o"]
        out = tmp_path / "run"
        assert main(["run", "_template", "--agent", *agents, *options, "--out", str(out), "--quiet"]) == 0
        ideas = ["fit one" in json.dumps(one["messages"][1]) for one in server.requests]
    assert ideas == [True] * 4 + [False] * 4
    results = mlrcbench.read_results(out)
    assert {one.assignment.agent for one in results} == {"react+straight:gpt-4o", "react-text:gpt-4o"}
    for one in results:
        assert (one.outcome, one.reason) == ("played", "")
        assert one.usage is not None
        assert one.usage["prompt"] > 1000
        assert one.usage["money"] > 0
        assert one.improvement is not None
        assert one.improvement > 0.9
        assert (one.folder / str(one.record) / CALLS).exists()
    assert KEY not in (out / "run.json").read_text()
    capsys.readouterr()


def test_an_endpoint_that_fails_is_infrastructure(tmp_path: Path) -> None:
    """The episode is tried twice, with a reason and no score; its usage is known all the same."""
    with ScriptedServer(lambda _: fail(401, "wrong key")) as server:
        (one,) = mlrcbench.run(
            ["react:gpt-4o"], ["_template"], directory=tmp_path, llm={"base_url": server.url}
        )
    assert (one.outcome, one.improvement) == ("infrastructure failed", 0.0)
    assert "check the key" in one.reason
    assert one.usage is not None
    assert len(server.requests) == 2


@pytest.mark.parametrize("style", STYLES)
def test_what_a_model_gets_wrong_is_an_observation(style: Style, env: mlrcbench.ResearchEnv) -> None:
    """The observation says what was wrong: an unknown action, missing or invalid arguments."""
    broken = {
        "tools": Answer(calls=(("write_file", '{"path": "a.py", "text": "cut o'),)),
        "text": say('```action\n{"action": "write_file", "path": "a.py", "text": "cut o\n```'),
        "mlab": say('Action: write_file\nAction Input: {"path": "a.py", "text": "cut o'),
    }[style]
    script = [broken, in_style(style, "no such tool!"), in_style(style, "run"), in_style(style, "submit")]
    with ScriptedServer(script) as server:
        last = play(env, agent_at(server, style=style))
    assert last.terminated
    said = [message["content"] for message in server.requests[-1]["messages"]]
    assert ["error: " in said[place] for place in (3, 5, 7)] == [True] * 3
    assert "not valid JSON" in said[3]
    assert "unknown action" in said[5]
    assert "needs the argument 'command'" in said[7]
    for message in server.requests[-1]["messages"]:
        for one in message.get("tool_calls", ()):
            assert isinstance(json.loads(one["function"]["arguments"]), dict)
            assert one["function"]["name"].replace("_", "").isalnum()


def test_several_calls_in_one_reply_are_carried_out_in_order(env: mlrcbench.ResearchEnv) -> None:
    """Each call has its own result, as servers demand."""
    two = Answer(calls=(("run", '{"command": "echo one"}'), ("run", '{"command": "echo two"}')))
    with ScriptedServer([two, call("submit")]) as server:
        play(env, agent_at(server))
    *_, first, second = server.requests[-1]["messages"]
    assert (first["tool_call_id"], second["tool_call_id"]) == ("call_0", "call_1")
    assert "one" in first["content"]
    assert "two" in second["content"]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "answer", [say("I think."), say(""), Answer(refusal="I will not."), Answer("x", finish="length")]
)
def test_answers_without_an_action_are_reminded_then_end(style: Style, answer: Answer) -> None:
    """The agent is reminded as often as its patience allows; then it submits."""
    with ScriptedServer([answer] * 3) as server:
        agent = agent_at(server, style=style, patience=3)
        assert agent.act(observe("Go."), INFO) == mlrcbench.Submit()
    assert len(server.requests) == 3
    assert server.requests[-1]["messages"][-1]["content"].startswith(REMINDERS[style])
    assert ("cut off" in server.requests[-1]["messages"][-1]["content"]) == (answer.finish == "length")
    with ScriptedServer([answer, answer, in_style(style, "evaluate")]) as server:
        assert agent_at(server, style=style, patience=3).act(observe("Go."), INFO) == {"action": "evaluate"}


def test_a_spent_budget_ends_with_a_submission(env: mlrcbench.ResearchEnv) -> None:
    """The model is not called again."""
    with ScriptedServer([Answer(calls=(("evaluate", "{}"),), usage=(900, 200))]) as server:
        last = play(env, agent_at(server, token_budget=1000))
    assert last.terminated
    assert last.info["test_score"]["value"] is not None
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "failure",
    [
        Answer(wait=30),
        fail(429, "slow down", Retry_After="0.01"),
        fail(500, "oh", Retry_After="0.01"),
        Answer(calls=(("run", '{"command": "never seen"}'),), breaks=True),
        Answer(resets=True),
        Answer(body=b"{}"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_temporary_failures_do_not_reach_the_episode(failure: Answer, stream: bool) -> None:
    """The agent acts as if nothing had failed; if the failures continue, it raises an error."""
    seconds = 0.2 if failure.wait else 10.0
    with ScriptedServer([failure, call("evaluate"), failure]) as server:
        agent = ReactAgent(Endpoint("m", server.url, retries=1, timeout=seconds, stream=stream))
        assert agent.act(observe("Go."), INFO) == {"action": "evaluate"}
    with ScriptedServer(lambda _: failure) as server:
        agent = ReactAgent(Endpoint("m", server.url, retries=0, timeout=seconds, stream=stream))
        with pytest.raises(EndpointError):
            agent.act(observe("Go."), INFO)


def counting(limit: int, answer: Callable[[int], Answer]) -> Callable[[dict[str, Any]], Answer]:
    """A server with a context of `limit` tokens, of which it counts two per four bytes."""
    number = 0

    def respond(request: dict[str, Any]) -> Answer:
        nonlocal number
        tokens = 2 * estimate_tokens([request["messages"], request.get("tools", [])])
        if tokens > limit:
            return fail(400, f"maximum context length is {limit}, not {tokens}", "context_length_exceeded")
        if request["messages"][0]["content"] == SUMMARY:
            return Answer("What was learned: 42.", usage=(tokens, 9))
        number += 1
        made = answer(number)
        return Answer(made.text, made.calls, usage=(tokens, 9))

    return respond


@pytest.mark.parametrize("style", STYLES)
def test_a_long_conversation_is_kept_within_the_context(style: Style) -> None:
    """Old turns make room for notes; no request ever exceeds what the server takes."""
    limit = 12_000
    refused = 0
    respond = counting(limit, lambda number: in_style(style, "run", command=f"echo {number}"))

    def watched(request: dict[str, Any]) -> Answer:
        nonlocal refused
        answer = respond(request)
        refused += answer.status == 400
        return answer

    with ScriptedServer(watched) as server:
        agent = agent_at(server, style=style, context=10_000)
        agent.act(observe("The statement."), INFO)
        for number in range(60):
            agent.act(observe(f"result {number} " + "x" * 2_000), INFO)
    assert refused == 0
    last = server.requests[-1]["messages"]
    assert "The statement." in last[1]["content"]
    assert "What was learned: 42." in last[1]["content"]
    assert "result 59" in last[-1]["content"]
    assert [message["role"] for message in last[2:]] == ["assistant", last[-1]["role"]] * (len(last[2:]) // 2)
    summaries = [one for one in server.requests if one["messages"][0]["content"] == SUMMARY]
    assert 2 <= len(summaries) <= 20
    assert "What was learned: 42." in summaries[-1]["messages"][1]["content"]


def test_a_context_that_is_smaller_than_expected_is_halved_until_it_fits() -> None:
    """It fits even if one observation, one argument, or the statement is longer than the context."""
    huge = "word " * 40_000
    respond = counting(9_000, lambda _: call("write_file", path="a.txt", text=huge))
    with ScriptedServer(respond) as server:
        agent = agent_at(server, context=200_000)
        for text in (huge, huge, "A short one.", huge):
            assert agent.act(observe(text), INFO)["action"] == "write_file"  # type: ignore[index]
    overflow = fail(400, "no", "context_length_exceeded")
    with ScriptedServer(lambda _: overflow) as server, pytest.raises(EndpointError, match="shorten"):
        agent_at(server).act(observe("Go."), INFO)
    assert 3 < len(server.requests) < 10


def test_a_model_that_takes_no_notes_continues_without() -> None:
    """It can read that messages are missing."""

    def respond(request: dict[str, Any]) -> Answer:
        summary = request["messages"][0]["content"] == SUMMARY
        return Answer(refusal="No notes.") if summary else call("run", command="ls")

    with ScriptedServer(respond) as server:
        agent = agent_at(server, context=6_000)
        for number in range(30):
            agent.act(observe(f"result {number} " + "x" * 3_000), INFO)
    assert server.requests[-1]["messages"][1]["content"].count(LOST) == 1


@pytest.mark.parametrize(
    ("style", "text", "form"),
    [
        ("text", 'Plan.\n```action\n{"action": "evaluate"}\n```\nand then', {"action": "evaluate"}),
        ("text", '```python\nx = {}\n```\n```json\n{"action": "submit"}\n```', {"action": "submit"}),
        ("text", '{"action": "run", "command": "ls"} I hope', {"action": "run", "command": "ls"}),
        ("text", "```action\nrun ls\n```", "run ls"),
        ("text", "```python\nprint(1)\n```", None),
        ("text", "no more", None),
        (
            "text",
            '```action\n{"action": "submit"}\n``` or not?</think>\n\n```\n{"action": "evaluate"}\n```',
            {"action": "evaluate"},
        ),
        (
            "mlab",
            '**Action:** `run`\n**Action Input:**\n```json\n{"command": "ls"}\n```',
            {"command": "ls", "action": "run"},
        ),
        (
            "mlab",
            'Action: Read File\nAction Input: {"path": "a\nb"}',
            {"path": "a\nb", "action": "read_file"},
        ),
        ("mlab", "Thought: x\nAction: submit", {"action": "submit"}),
        (
            "text",
            '```action\n{"action": "run", "command": "a\nb"}\n```',
            {"action": "run", "command": "a\nb"},
        ),
        ("text", '<think>I could {"action": "submit"}, but first', None),
        ("text", 'Well. <think>\n```action\n{"action": "submit"}\n```\n', None),
        ("text", '<think>no {"action": "submit"}</think>{"action": "evaluate"}', {"action": "evaluate"}),
        ("text", '[THINK]no[/THINK]<thinking>{"action": "submit"}', None),
        ("text", 'I strip `<think>`: {"action": "submit"}', {"action": "submit"}),
        (
            "text",
            '<think>a</think>{"action": "run", "command": "grep </think> a"} b',
            {"action": "run", "command": "grep </think> a"},
        ),
        ("mlab", "<think>Action: submit", None),
        ("mlab", "<think>Action: run\nAction Input: ls?</think>\nAction: submit", {"action": "submit"}),
        ("mlab", "Action: run\nAction Input: ls -l", "ls -l"),
        ("mlab", "My next action is to think.", None),
    ],
)
def test_what_is_written_is_read(style: Style, text: str, form: Any) -> None:
    """Actions are read as models write them: decorated, fenced or not, with text around."""
    wishes, message = read_wishes(style, Reply(text, (), Usage(), "stop", {}))
    assert [wish.form for wish in wishes] == ([] if form is None else [form])
    assert message["content"] in text


@pytest.mark.parametrize("style", ["text", "mlab"])
@pytest.mark.parametrize(
    "text",
    [
        "\n" * 1_000_000,
        "```action\n" * 50_000,
        '{"action": ' * 100_000,
        "{" + " " * 1_000_000,
        "-" * 1_000_000 + "Action",
        "Action Input" * 100_000,
        "Action: run\nAction Input: " + "[" * 1_000_000,
        "`" * 1_000_000,
        "```\n" + " " * 500_000 + "\n```" * 20_000,
    ],
)
def test_hostile_text_is_read_in_linear_time(style: Style, text: str) -> None:
    """A pattern that backtracks would take too long for these texts."""
    _, message = read_wishes(style, Reply(text, (), Usage(), "stop", {}))
    assert (message["content"] or "") in text


PARTS = st.sampled_from(
    [
        "```",
        "```action\n",
        "\n```\n",
        '{"action": ',
        '"run"',
        "}",
        "Action",
        ":",
        " Input",
        "\n",
        "[",
        "**",
        "</think>",
    ]
)


@given(st.sampled_from(STYLES), st.lists(PARTS | st.text(max_size=3), max_size=30).map("".join))
def test_any_text_can_be_read(style: Style, text: str) -> None:
    """Nothing raises an error; the kept message can be sent back, and adds nothing to the text."""
    calls = (ToolCall("a", text[:90], text), ToolCall("b", "run", '{"command": "ls"}'))
    wishes, message = read_wishes(style, Reply(text, calls, Usage(), "stop", {}))
    assert len(wishes) == 2 if style == "tools" else len(wishes) <= 1
    assert (message["content"] or "") in text
    for one in message.get("tool_calls", ()):
        assert isinstance(json.loads(one["function"]["arguments"]), dict)
        assert re.fullmatch("[A-Za-z0-9_-]{1,64}", one["function"]["name"])


def test_estimates_learn_from_the_server() -> None:
    """The estimate follows the server's count of tokens, within bounds."""
    history = History("s", "f" * 4_000, 2_000)
    assert history.chars(1) == 8_000
    history.learn(Usage(2 * estimate_tokens([history.messages, []]), 1))
    assert history.chars(1) == pytest.approx(4_000, rel=0.02)
    history.learn(Usage(10**9, 1))
    assert history.chars(1) == 2_000
    history.learn(Usage(1, 1, estimated=True))
    assert history.chars(1) == 2_000


def test_names_of_agents() -> None:
    """A name says in what agents differ; the error about a wrong one says which exist."""
    assert react_name("a:b/c", "mlab", Path("x/my idea.txt")) == "react-mlab+my-idea:a:b/c"
    options = LlmOptions(ideas={"my-idea": "Try it."}, base_url="http://localhost:1/v1")
    agent = make_agent("react-mlab+my-idea:a:b/c", mlrcbench.get_competition("_template"), options)
    assert isinstance(agent, ReactAgent)
    assert isinstance(agent.model, Endpoint)
    assert (agent.style, agent.idea, agent.model.model) == ("mlab", "Try it.", "a:b/c")
    for name, message in {
        "react": "write react:MODEL",
        "react-poem:m": "Known: mlab, text, tools",
        "react+other:m": "Known: my-idea",
        "raect-text:m": "Known: .*react:MODEL",
    }.items():
        with pytest.raises(RegistryError, match=message):
            check_name(name, options)


def test_what_cannot_be_played_is_said_before_the_first_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing key, a missing price and an unknown option are errors at once."""
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    for error, message, llm in (
        (EndpointError, "no key", {}),
        (EndpointError, "has no price", {"money_budget": 1.0}),
        (RunError, "Did you mean 'base_url'", {"baseurl": "x"}),
    ):
        with pytest.raises(error, match=message):
            mlrcbench.run(["react:m"], ["_template"], directory=tmp_path / "run", llm=llm)
    assert main(["run", "_template", "--agent", "react", "--quiet"]) == 2


def test_a_run_grows_by_models_that_share_their_options(tmp_path: Path) -> None:
    """A model may join a run without models; shared options stay; ideas are added, never changed."""
    url = {"base_url": "http://localhost:1/v1"}

    def write(agent: str, **llm: Any) -> None:
        Plan((agent,), ("_template",), llm=llm).write(tmp_path)

    write("baseline")
    write("react:a", **url, ideas={"one": "x"})
    write("react+two:b", **url, ideas={"two": "y"})
    write("baseline")
    for llm in ({**url, "temperature": 1.0}, {**url, "ideas": {"two": "z"}}):
        with pytest.raises(RunError, match="must be alike"):
            write("react:a", **llm)
    write("react+two:a", **url, ideas={"two": "y"})
    assert read_plan(tmp_path).llm == {**url, "ideas": {"one": "x", "two": "y"}}
