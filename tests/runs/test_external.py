"""Agents that are programs: what they read, and how each of their failures is reported."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.agents import play
from mlrcbench.agents.external import ExternalAgent
from mlrcbench.errors import AgentError

HONEST = """
    import json, sys
    for number, line in enumerate(sys.stdin):
        message = json.loads(line)
        assert "text" in message["observation"]
        actions = [{"action": "run", "command": "echo hello"}, {"action": "evaluate"}, {"action": "submit"}]
        print(json.dumps(actions[number]), flush=True)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The file into which a test writes its agent."""
    return tmp_path / "agent.py"


def start(program: Path, text: str, seconds: float = 20.0) -> ExternalAgent:
    """An agent that runs a Python script."""
    program.write_text(textwrap.dedent(text))
    return ExternalAgent([sys.executable, str(program)], seconds=seconds)


def test_a_program_plays_an_episode(env: mlrcbench.ResearchEnv, program: Path) -> None:
    """It reads observations, writes actions, and its process ends with it."""
    with start(program, HONEST) as agent:
        last = play(env, agent, seed=0)
        process = agent._process
        assert process is not None
    assert (last.number, last.terminated) == (3, True)
    assert process.returncode == 0


def test_nonsense_is_answered_like_any_agents(env: mlrcbench.ResearchEnv, program: Path) -> None:
    """A line that is not an action costs a step and is explained; the episode continues."""
    text = """
        import json, sys
        line = sys.stdin.readline()
        print("not JSON at all", flush=True)
        message = json.loads(sys.stdin.readline())
        assert message["info"]["error"], message
        print('{"action": "submit"}', flush=True)
    """
    with start(program, text) as agent:
        assert play(env, agent, seed=0).number == 2


@pytest.mark.parametrize(
    ("text", "seconds", "message"),
    [
        ("raise SystemExit(7)", 20.0, "ended with status 7"),
        ("import sys\nsys.stdin.readline()", 20.0, "ended with status 0"),
        ("import time\ntime.sleep(60)", 0.3, "did not answer within"),
        ("import sys\nwhile True: sys.stdout.write('x' * 65536)", 60.0, "longer than"),
    ],
)
def test_a_program_that_breaks_the_protocol_is_reported(
    env: mlrcbench.ResearchEnv, program: Path, text: str, seconds: float, message: str
) -> None:
    """It is the agent's failure, and its process ends."""
    with pytest.raises(AgentError, match=message), start(program, text, seconds) as agent:
        play(env, agent, seed=0)
    assert agent._process is None


def test_a_program_that_does_not_read_is_reported(program: Path) -> None:
    """A pipe that is full does not hold up the episode for ever."""
    with (
        pytest.raises(AgentError, match="did not read"),
        start(program, "import time\ntime.sleep(60)", 0.5) as agent,
    ):
        agent.act({"text": "x" * 1_000_000}, {})


def test_a_program_that_does_not_exist_is_reported() -> None:
    """The error has the command that was tried."""
    with pytest.raises(AgentError, match="no-such-program"):
        ExternalAgent("no-such-program --now").act({}, {})
