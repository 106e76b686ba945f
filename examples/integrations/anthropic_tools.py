"""An episode by tool calls of Anthropic's protocol alone: python anthropic_tools.py MODEL [COMPETITION].

The model answers at the address in ANTHROPIC_BASE_URL; the key is in ANTHROPIC_API_KEY.
"""

import sys

import anthropic

import mlrcbench

model, competition = [*sys.argv[1:], "backdoor-trigger"][:2]
client = anthropic.Anthropic()
with mlrcbench.Session(mlrcbench.make(competition)) as session:
    messages = [{"role": "user", "content": session.begin(seed=0)}]
    while not session.done:
        answer = client.messages.create(
            model=model, max_tokens=8_000, messages=messages, tools=mlrcbench.tool_specs("anthropic")
        )
        messages.append({"role": "assistant", "content": answer.content})
        calls = [block for block in answer.content if block.type == "tool_use"]
        if not calls:
            break
        results = [(call.id, session.call(call.name, call.input)) for call in calls]
        messages.append(
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": number,
                        "content": result.text,
                        "is_error": result.is_error,
                    }
                    for number, result in results
                ],
            }
        )
    print(f"{session.calls} steps, reward {session.reward:.3f}, test {session.test_score}")
