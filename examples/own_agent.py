"""Your own agent: any object that maps an observation to an action.

This agent searches: it tries polynomials of rising degree, evaluates each on dev, and submits;
the environment scores the best of them on test.
"""

from typing import Any

import mlrcbench
from mlrcbench.agents import Step, play

METHOD = """import numpy as np


def predict(train, x):
    return np.polyval(np.polyfit(train[:, 0], train[:, 1], {degree}), x)
"""


class PolynomialSearch:
    """Writes a method, evaluates it, and writes the next one."""

    def __init__(self, degrees: range) -> None:
        self._script = [
            action
            for degree in degrees
            for action in (
                mlrcbench.WriteFile("method.py", METHOD.format(degree=degree)),
                mlrcbench.Evaluate(),
            )
        ]

    def act(self, observation: dict[str, Any], info: dict[str, Any]) -> mlrcbench.Action:
        """The next action of the script, and `Submit` at its end."""
        return self._script.pop(0) if self._script else mlrcbench.Submit()


def show(step: Step) -> None:
    """Print the score of each evaluation."""
    if "score" in step.info:
        print(f"step {step.number}: dev {step.info['score']['value']:.4f}")


with mlrcbench.make("_template") as env:
    last = play(env, PolynomialSearch(range(4)), seed=0, on_step=show)
    print(f"test {last.info['test_score']['value']:.4f}, reward {last.reward:+.3f}")
