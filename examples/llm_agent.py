"""A language model as the agent, behind any OpenAI-compatible endpoint.

With a key in OPENAI_API_KEY, or the address of your own server in OPENAI_BASE_URL, that model plays:

    OPENAI_BASE_URL=http://localhost:8000/v1 python llm_agent.py my-model

Without either, a server on this machine takes its place. It answers by a script over the same
protocol, so that the example runs without a network.
"""

import os
import sys
from contextlib import ExitStack

import mlrcbench
from mlrcbench.agents import Step, play
from mlrcbench.agents.react import CALLS, ReactAgent
from mlrcbench.llm import Endpoint
from mlrcbench.testing.endpoint import ScriptedServer, call, say

LINE = """import numpy as np


def predict(train, x):
    return np.polyval(np.polyfit(train[:, 0], train[:, 1], 1), x)
"""
SCRIPT = [
    call("read_file", path="method.py"),
    say("The baseline ignores x, so I shall fit a line."),  # not a tool call: the agent reminds the model
    call("write_file", path="method.py", text=LINE),
    call("evaluate"),
    call("submit"),
]


def show(step: Step) -> None:
    """Print what the model did, and the first line of the result."""
    result = step.observation["text"].splitlines()[0]
    print(f"step {step.number}: {step.info['action'] or 'no action'}: {result}")


with ExitStack() as stack:
    if os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"):
        endpoint = Endpoint(sys.argv[1] if len(sys.argv) > 1 else "gpt-4o-mini", token_budget=200_000)
    else:
        server = stack.enter_context(ScriptedServer(SCRIPT))
        endpoint = Endpoint("scripted", server.url)
    env = stack.enter_context(mlrcbench.make("_template"))
    agent = ReactAgent(endpoint, style="tools", idea="The points lie on a line.")
    last = play(env, agent, seed=0, on_step=show)
    print(f"test {last.info['test_score']['value']:.4f}, reward {last.reward:+.3f}")
    print(f"{agent.spent.tokens} tokens, US dollars: {agent.spent.money}; calls in {env.record}/{CALLS}")
