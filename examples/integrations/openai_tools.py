"""An episode by tool calls of OpenAI's protocol alone: python openai_tools.py MODEL [COMPETITION].

The model answers at the address in OPENAI_BASE_URL; the key is in OPENAI_API_KEY.
"""

import sys

import openai

import mlrcbench

model, competition = [*sys.argv[1:], "backdoor-trigger"][:2]
client = openai.OpenAI()
with mlrcbench.Session(mlrcbench.make(competition)) as session:
    messages = [{"role": "user", "content": session.begin(seed=0)}]
    while not session.done:
        answer = client.chat.completions.create(
            model=model, messages=messages, tools=mlrcbench.tool_specs("openai")
        )
        message = answer.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        if not message.tool_calls:
            break
        for call in message.tool_calls:
            result = session.call(call.function.name, call.function.arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result.text})
    print(f"{session.calls} steps, reward {session.reward:.3f}, test {session.test_score}")
