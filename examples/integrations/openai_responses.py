"""An episode by tool calls of OpenAI's Responses API alone: python openai_responses.py MODEL [COMPETITION].

The model answers at the address in OPENAI_BASE_URL; the key is in OPENAI_API_KEY.
"""

import sys

import openai

import mlrcbench

model, competition = [*sys.argv[1:], "backdoor-trigger"][:2]
client = openai.OpenAI()
with mlrcbench.Session(mlrcbench.make(competition)) as session:
    items = [{"role": "user", "content": session.begin(seed=0)}]
    while not session.done:
        answer = client.responses.create(
            model=model, input=items, tools=mlrcbench.tool_specs("responses"), store=False
        )
        items += answer.output
        calls = [item for item in answer.output if item.type == "function_call"]
        if not calls:
            break
        for call in calls:
            output = session.call(call.name, call.arguments).text
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": output})
    print(f"{session.calls} steps, reward {session.reward:.3f}, test {session.test_score}")
