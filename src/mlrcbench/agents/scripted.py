"""Agents that need no model: a fixed list of actions, an overlay of files, random actions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mlrcbench.actions import Action, Evaluate, Submit, WriteFile
from mlrcbench.competition import Competition
from mlrcbench.spaces import action_space


class ScriptedAgent:
    """Plays a list of actions, then submits."""

    def __init__(self, actions: Iterable[Action | dict[str, Any] | str]) -> None:
        self._actions: Iterator[Action | dict[str, Any] | str] = iter(actions)

    def act(self, observation: dict[str, Any], info: dict[str, Any]) -> Action | dict[str, Any] | str:
        """The next action of the list."""
        return next(self._actions, Submit())


class RandomAgent:
    """Plays random harmless actions, then submits: a floor, and a smoke test.

    Args:
        steps: How many before it submits.
        seed: Of its choices.
    """

    def __init__(self, steps: int = 5, seed: int = 0) -> None:
        self._space = action_space()
        self._space.seed(seed)
        self._left = steps

    def act(self, observation: dict[str, Any], info: dict[str, Any]) -> Action | dict[str, Any] | str:
        """A sample of the action space."""
        self._left -= 1
        return self._space.sample() if self._left >= 0 else Submit()


def overlay_agent(competition: Competition, overlay: str) -> ScriptedAgent:
    """Writes an overlay's files, evaluates once on dev, and submits.

    Args:
        competition: Whose overlay.
        overlay: "baseline" or "reference".
    """
    files = competition.overlay(overlay)
    return ScriptedAgent([*(WriteFile(path, text) for path, text in sorted(files.items())), Evaluate()])
