"""LangChain's agent plays an episode: python langchain_agent.py MODEL [COMPETITION].

The model answers at the address in OPENAI_BASE_URL, by OpenAI's protocol; the key is in OPENAI_API_KEY.
"""

import sys

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI

import mlrcbench
from mlrcbench.integrations.langchain import stop, tools

model, competition = [*sys.argv[1:], "backdoor-trigger"][:2]
with mlrcbench.Session(mlrcbench.make(competition)) as session:
    briefing = session.begin(seed=0)
    agent = create_agent(ChatOpenAI(model=model), tools(session), middleware=[stop(session)])
    agent.invoke({"messages": [("user", briefing)]}, {"recursion_limit": 200})
    print(f"{session.calls} steps, reward {session.reward:.3f}, test {session.test_score}")
