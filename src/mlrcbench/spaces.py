"""The Gymnasium spaces that really contain what `reset`, `step` and agents exchange."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from typing_extensions import override

from mlrcbench.actions import MAX_JSON_CHARS, ReadFile, Run, StartJob, WriteFile, is_action, to_json
from mlrcbench.budget import Budget
from mlrcbench.observation import MAX_ASIDE_CHARS, MAX_CHARS

_PRINTABLE = "".join(chr(code) for code in range(32, 127))
# The status line, and the words around a cut, come on top of a body.
_STATUS_CHARS = 1_000


class Unicode(spaces.Text):
    """Every string up to a length; samples are printable ASCII."""

    def __init__(self, max_length: int, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(max_length, min_length=0, charset=_PRINTABLE, seed=seed)

    @override
    def contains(self, x: Any) -> bool:
        """Whether `x` is such a string."""
        return isinstance(x, str) and len(x) <= self.max_length

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.max_length})"


class ActionText(Unicode):
    """What `step` takes: text, which should be an action's JSON form; or an action itself.

    Any text is a legal action, because an agent may write anything: what is no action gets
    an observation that says so. `sample` draws harmless actions that can be executed.
    """

    @override
    def contains(self, x: Any) -> bool:
        """Whether `step` takes `x`."""
        return super().contains(x) or isinstance(x, Mapping) or is_action(x)

    @override
    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """The JSON text of an action that changes nothing but a scratch file; takes no masks.

        Actions on a job are not drawn, as they can be executed only if there is one.
        """
        if mask is not None or probability is not None:
            raise ValueError("actions cannot be sampled under a mask")
        number = int(self.np_random.integers(1000))
        harmless = (
            Run(f"echo {number}"),
            ReadFile("statement.md", start=1, end=1 + number % 20),
            WriteFile("scratch.txt", f"{number}\n"),
            StartJob(f"echo {number}"),
        )
        return json.dumps(to_json(harmless[int(self.np_random.integers(len(harmless)))]))


def observation_space(budget: Budget, most: float) -> spaces.Dict:
    """The space of `Observation.to_space`.

    Args:
        budget: Of an episode.
        most: Relative improvement of a perfect score on dev.
    """
    return spaces.Dict(
        {
            "text": Unicode(MAX_CHARS + MAX_ASIDE_CHARS + _STATUS_CHARS),
            "steps_left": spaces.Box(0, budget.steps, (1,), np.int64),
            "evaluations_left": spaces.Box(0, budget.evaluations, (1,), np.int64),
            "seconds_left": spaces.Box(0.0, budget.seconds, (1,), np.float64),
            "best_improvement": spaces.Box(0.0, most, (1,), np.float64),
        }
    )


def action_space() -> ActionText:
    """The space of actions."""
    return ActionText(MAX_JSON_CHARS)
