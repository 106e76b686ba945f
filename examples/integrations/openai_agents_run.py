"""The OpenAI Agents SDK plays an episode: python openai_agents_run.py MODEL [COMPETITION].

The model answers at the address in OPENAI_BASE_URL, by OpenAI's protocol; the key is in OPENAI_API_KEY.
"""

import sys

import openai
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, set_tracing_disabled

import mlrcbench
from mlrcbench.integrations.openai_agents import stop, tools

set_tracing_disabled(True)  # nothing is sent to anyone except the model
name, competition = [*sys.argv[1:], "backdoor-trigger"][:2]
with mlrcbench.Session(mlrcbench.make(competition)) as session:
    briefing = session.begin(seed=0)
    agent = Agent(
        name="researcher",
        model=OpenAIChatCompletionsModel(name, openai.AsyncOpenAI()),
        model_settings=ModelSettings(parallel_tool_calls=False),
        tools=list(tools(session)),
        tool_use_behavior=stop(session),
    )
    Runner.run_sync(agent, briefing, max_turns=60)
    print(f"{session.calls} steps, reward {session.reward:.3f}, test {session.test_score}")
