"""One episode by hand: look around, try the method, change it, evaluate, and submit."""

import mlrcbench

LINE = """import numpy as np


def predict(train, x):
    slope, offset = np.polyfit(train[:, 0], train[:, 1], 1)
    return slope * x + offset
"""

# The template is the smallest competition; an instance of "backdoor-trigger" takes a minute to build.
with mlrcbench.make("_template") as env:
    observation, info = env.reset(seed=0)
    print(observation["text"])

    for action in (
        mlrcbench.Run("python main.py"),
        mlrcbench.ReadFile("method.py"),
        mlrcbench.WriteFile("method.py", LINE),
        mlrcbench.Evaluate(),
        mlrcbench.Submit(),
    ):
        observation, reward, terminated, truncated, info = env.step(action)
        print(f"\n>>> {action}\n{observation['text']}")

    print(f"\nreward {reward:+.3f}, record {env.record}")
