"""LangChain's agent plays an episode: python langchain_agent.py MODEL [COMPETITION].

The model answers where OPENAI_BASE_URL says, by OpenAI's protocol, with OPENAI_API_KEY.
"""

import sys

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI

import mlrcbench
from mlrcbench.integrations.langchain import tools

model, competition = [*sys.argv[1:], "backdoor-trigger"][:2]
with mlrcbench.Session(mlrcbench.make(competition)) as session:
    briefing = session.begin(seed=0)
    agent = create_agent(ChatOpenAI(model=model), tools(session))
    agent.invoke({"messages": [("user", briefing)]}, {"recursion_limit": 200})
    print(f"{session.calls} steps, reward {session.reward:.3f}, test {session.test_score}")
