"""Agent SDKs: in each example the SDK's own loop plays an episode, against a scripted server."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import mlrcbench
from mlrcbench.testing.endpoint import Answer, ScriptedServer, call, say

EXAMPLES = Path(__file__).parents[2] / "examples" / "integrations"
METHOD = mlrcbench.get_competition("_template").overlay("reference")["method.py"]
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("read_file", {"path": "method.py"}),
    ("write_file", {"path": "main.py", "text": "stolen"}),
    ("write_file", {"path": "method.py", "text": METHOD}),
    ("run", {"command": "python main.py", "timeout": 30}),
    ("evaluate", {}),
    ("submit", {}),
]


def _need(*modules: str) -> None:
    for name in modules:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


def _run(example: str, **variables: str) -> str:
    """An example's output; it can only reach the scripted server."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / example), "scripted", "_template"],
        env={**os.environ, "OPENAI_API_KEY": "none", "ANTHROPIC_API_KEY": "none", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _check(output: str, answers: list[str]) -> None:
    """Check the reward, which is the reference's, and the tools' answers in the order of the calls."""
    last = output.splitlines()[-1]
    assert last.startswith(("6 steps, reward 1.0", "6 steps, reward 0.9")), output
    assert "def predict" in answers[0]
    assert "error: 'main.py' is protected" in answers[1]
    assert "replaced 'method.py'" in answers[2]
    assert "held-out points" in answers[3]
    assert "root mean squared error" in answers[4]


@pytest.mark.parametrize(
    ("example", "needs", "end"),
    [
        ("langchain_agent.py", ("langchain", "langchain_openai"), say("Done.")),
        ("smolagents_agent.py", ("smolagents", "openai"), call("final_answer", answer="Done.")),
        ("openai_agents_run.py", ("agents", "openai"), say("Done.")),
        ("openai_tools.py", ("openai",), say("Done.")),
    ],
)
def test_an_sdk_plays_an_episode(example: str, needs: tuple[str, ...], end: Answer) -> None:
    """It offers each action with its description, makes each call once, and returns the answers."""
    _need(*needs)
    script = [*(call(name, **arguments) for name, arguments in CALLS), end]
    with ScriptedServer(script) as server:
        output = _run(example, OPENAI_BASE_URL=server.url)
    offered = {tool["function"]["name"]: tool["function"] for tool in server.requests[0]["tools"]}
    for spec in mlrcbench.tool_specs():
        assert offered[spec["name"]]["description"] == spec["description"]
        schema = offered[spec["name"]]["parameters"]
        assert set(schema["properties"]) == set(spec["parameters"]["properties"])
        assert set(schema.get("required", ())) == set(spec["parameters"]["required"])
    answers = [
        message["content"] if isinstance(message["content"], str) else json.dumps(message["content"])
        for message in server.requests[-1]["messages"]
        if message["role"] in ("tool", "tool-response") or "tool_call_id" in message
    ]
    _check(output, answers or _observations(server.requests[-1]))


def _observations(request: dict[str, Any]) -> list[str]:
    """The answers of tools, from an SDK that sends them as messages of the user."""
    texts = [part["text"] for message in request["messages"] for part in message["content"]]
    return [text for text in texts if text.startswith("Observation:")]


def _anthropic_answer(number: int, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    use = {"type": "tool_use", "id": f"call_{number}", "name": name, "input": arguments}
    message = {"id": "message", "type": "message", "role": "assistant", "model": "scripted"}
    end = {"stop_reason": "tool_use", "usage": {"input_tokens": 1, "output_tokens": 1}}
    return {**message, **end, "content": [use]}


def _responses_answer(number: int, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    use = {
        "type": "function_call",
        "id": f"item_{number}",
        "call_id": f"call_{number}",
        "name": name,
        "arguments": json.dumps(arguments),
        "status": "completed",
    }
    answer = {"id": f"answer_{number}", "object": "response", "created_at": 0, "model": "scripted"}
    settings = {"parallel_tool_calls": False, "tool_choice": "auto", "tools": []}
    return {**answer, **settings, "status": "completed", "output": [use]}


def _gemini_answer(number: int, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    parts = [{"functionCall": {"name": name, "args": arguments}}]
    return {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}]}


@contextmanager
def _scripted(
    answer: Callable[[int, str, dict[str, Any]], dict[str, Any]],
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server whose model makes the calls of `CALLS`, in the protocol of its answers."""
    requests: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

        def do_POST(self) -> None:
            requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            name, arguments = CALLS[len(requests) - 1]
            body = json.dumps(answer(len(requests), name, arguments)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", requests
        finally:
            server.shutdown()


def test_anthropic_tool_calls() -> None:
    """The same episode in the other protocol."""
    _need("anthropic")
    with _scripted(_anthropic_answer) as (url, requests):
        output = _run("anthropic_tools.py", ANTHROPIC_BASE_URL=url)
    assert requests[0]["tools"] == mlrcbench.tool_specs("anthropic")
    results = [
        block
        for message in requests[-1]["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_result"
    ]
    _check(output, [block["content"] for block in results])
    assert [block["is_error"] for block in results] == [False, True, False, False, False]


def test_tool_calls_of_the_responses_api() -> None:
    """The same episode in OpenAI's newer protocol."""
    _need("openai")
    with _scripted(_responses_answer) as (url, requests):
        output = _run("openai_responses.py", OPENAI_BASE_URL=url)
    assert requests[0]["tools"] == mlrcbench.tool_specs("responses")
    items = requests[-1]["input"]
    _check(output, [item["output"] for item in items if item.get("type") == "function_call_output"])


def test_gemini_tool_calls() -> None:
    """The same episode in Gemini's protocol."""
    try:
        _need("google.genai")
    except ModuleNotFoundError:  # without any package of Google's
        pytest.skip("google.genai is not installed")
    with _scripted(_gemini_answer) as (url, requests):
        output = _run("gemini_tools.py", GOOGLE_GEMINI_BASE_URL=url, GEMINI_API_KEY="none")
    (offered,) = requests[0]["tools"]
    names = [one["name"] for one in offered["functionDeclarations"]]
    assert names == [spec["name"] for spec in mlrcbench.tool_specs()]
    parts = [part for content in requests[-1]["contents"] for part in content["parts"]]
    answers = [part["functionResponse"]["response"]["output"] for part in parts if "functionResponse" in part]
    _check(output, answers)


SDKS = [
    ("langchain_agent.py", ("langchain", "langchain_openai")),
    ("smolagents_agent.py", ("smolagents", "openai")),
    ("openai_agents_run.py", ("agents", "openai")),
]


@pytest.mark.parametrize(("example", "needs"), SDKS)
def test_an_agent_stops_when_the_episode_is_over(example: str, needs: tuple[str, ...]) -> None:
    """Its model is not asked again after `submit`; a `submit` that is refused ends nothing."""
    _need(*needs)
    script = [call("submit", comment="now"), call("submit"), *[call("run", command="true")] * 60]
    with ScriptedServer(script) as server:
        output = _run(example, OPENAI_BASE_URL=server.url)
    steps = 1 if example.startswith("smolagents") else 2  # it checks arguments itself
    assert output.splitlines()[-1].startswith(f"{steps} steps, reward")
    assert len(server.requests) == 2


def test_an_agent_that_continues_after_the_end(tmp_path: Path) -> None:
    """It reads that the episode is over, and no step is made; answers that are errors are marked as such."""
    _need("langchain_core")
    from mlrcbench.integrations.langchain import tools

    with mlrcbench.Session(mlrcbench.make("_template", records=tmp_path)) as session:
        session.begin(seed=0)
        by_name = {tool.name: tool for tool in tools(session)}
        bad = {"type": "tool_call", "id": "1", "name": "run", "args": {"speed": 1}}
        good = {**bad, "args": {"command": "true"}}
        marks = [by_name["run"].invoke(one) for one in (bad, good)]
        assert [one.status for one in marks] == ["error", "success"]
        assert "no argument 'speed'" in marks[0].content
        by_name["submit"].invoke({})
        assert "the episode is over" in by_name["run"].invoke({"command": "true"})
        assert session.calls == 3


@pytest.mark.parametrize("needs", ["smolagents", "agents", "langchain_core"])
def test_a_failure_of_the_infrastructure_is_an_exception(
    needs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves the framework's own loop, and the model is not asked again."""
    _need(needs, "openai", *(["langchain", "langchain_openai"] if needs == "langchain_core" else []))

    def fail(*_: object) -> None:
        raise mlrcbench.SandboxError("gone")

    with (
        ScriptedServer([call("run", command="true")] * 60) as server,
        mlrcbench.Session(mlrcbench.make("_template", records=tmp_path)) as session,
    ):
        briefing = session.begin(seed=0)
        monkeypatch.setattr(session.env, "step", fail)
        with pytest.raises(Exception, match="gone"):
            {"smolagents": _smolagents, "agents": _openai_agents, "langchain_core": _langchain}[needs](
                server.url, session, briefing
            )
        assert len(server.requests) == 1


def _smolagents(url: str, session: mlrcbench.Session, briefing: str) -> None:
    from smolagents import OpenAIModel, ToolCallingAgent

    from mlrcbench.integrations.smolagents import run, tools

    agent = ToolCallingAgent(tools(session), OpenAIModel("m", url, api_key="none"), max_tool_threads=1)
    run(agent, session, briefing)


def _langchain(url: str, session: mlrcbench.Session, briefing: str) -> None:
    from langchain.agents import create_agent
    from langchain_openai import ChatOpenAI

    from mlrcbench.integrations.langchain import tools

    model: Any = ChatOpenAI(model="m", base_url=url, api_key="none")
    create_agent(model, tools(session)).invoke({"messages": [("user", briefing)]})


def _openai_agents(url: str, session: mlrcbench.Session, briefing: str) -> None:
    import openai
    from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled

    from mlrcbench.integrations.openai_agents import tools

    set_tracing_disabled(True)
    model = OpenAIChatCompletionsModel("m", openai.AsyncOpenAI(base_url=url, api_key="none"))
    Runner.run_sync(Agent(name="researcher", model=model, tools=list(tools(session))), briefing)
