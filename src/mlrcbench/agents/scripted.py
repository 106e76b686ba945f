"""Agents without a model: a fixed list of actions, an overlay of files, random actions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mlrcbench.catalog.competition import Competition
from mlrcbench.protocol.actions import Action, Evaluate, Submit, WriteFile
from mlrcbench.protocol.spaces import action_space


class ScriptedAgent:
    """Plays a list of actions, then submits."""

    def __init__(self, actions: Iterable[Action | dict[str, Any] | str]) -> None:
        self._actions: Iterator[Action | dict[str, Any] | str] = iter(actions)

    def act(self, observation: dict[str, Any], info: dict[str, Any]) -> Action | dict[str, Any] | str:
        """The next action of the list."""
        return next(self._actions, Submit())


class RandomAgent:
    """Plays random harmless actions, then submits: a lower bound, and a smoke test.

    Args:
        steps: Number of actions before it submits.
        seed: Seed of its choices.
    """

    def __init__(self, steps: int = 5, seed: int = 0) -> None:
        self._space = action_space()
        self._space.seed(seed)
        self._left = steps

    def act(self, observation: dict[str, Any], info: dict[str, Any]) -> Action | dict[str, Any] | str:
        """A random action, or the submission."""
        self._left -= 1
        return self._space.sample() if self._left >= 0 else Submit()


def overlay_agent(competition: Competition, overlay: str) -> ScriptedAgent:
    """An agent that writes an overlay's files, evaluates once on dev, and submits.

    Args:
        competition: The competition that the overlay belongs to.
        overlay: "baseline" or "reference".
    """
    files = competition.overlay(overlay)
    return ScriptedAgent([*(WriteFile(path, text) for path, text in sorted(files.items())), Evaluate()])
