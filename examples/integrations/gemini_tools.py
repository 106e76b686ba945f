"""An episode by tool calls of Gemini's protocol alone: python gemini_tools.py MODEL [COMPETITION].

The key is in GEMINI_API_KEY; another address than Google's own is in GOOGLE_GEMINI_BASE_URL.
"""

import sys

from google import genai
from google.genai import types

import mlrcbench

model, competition = [*sys.argv[1:], "backdoor-trigger"][:2]
client = genai.Client()
config = types.GenerateContentConfig(
    tools=[{"function_declarations": mlrcbench.tool_specs("gemini")}],
    automatic_function_calling={"disable": True},
)
with mlrcbench.Session(mlrcbench.make(competition)) as session:
    contents = [types.Content(role="user", parts=[types.Part(text=session.begin(seed=0))])]
    while not session.done:
        answer = client.models.generate_content(model=model, contents=contents, config=config)
        contents.append(answer.candidates[0].content)
        if not answer.function_calls:
            break
        results = [
            types.Part.from_function_response(
                name=call.name, response={"output": session.call(call.name, call.args).text}
            )
            for call in answer.function_calls
        ]
        contents.append(types.Content(role="user", parts=results))
    print(f"{session.calls} steps, reward {session.reward:.3f}, test {session.test_score}")
