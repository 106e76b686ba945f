"""An agent of smolagents plays an episode: python smolagents_agent.py MODEL [COMPETITION].

The model answers at the address in OPENAI_BASE_URL, by OpenAI's protocol; the key is in OPENAI_API_KEY.
"""

import os
import sys

from smolagents import OpenAIModel, ToolCallingAgent

import mlrcbench
from mlrcbench.integrations.smolagents import run, tools

model_id, competition = [*sys.argv[1:], "backdoor-trigger"][:2]
model = OpenAIModel(model_id, os.environ.get("OPENAI_BASE_URL"), api_key=os.environ.get("OPENAI_API_KEY"))
with mlrcbench.Session(mlrcbench.make(competition)) as session:
    briefing = session.begin(seed=0)
    # One call at a time, because the steps of an episode have an order.
    agent = ToolCallingAgent(tools(session), model, max_tool_threads=1)
    run(agent, session, briefing, max_steps=60)
    print(f"{session.calls} steps, reward {session.reward:.3f}, test {session.test_score}")
