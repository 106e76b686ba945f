"""Agents: anything that maps an observation to an action."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mlrcbench.actions import Action
from mlrcbench.env import ResearchEnv


class Agent(Protocol):
    """What plays an episode."""

    def act(self, observation: dict[str, Any], info: dict[str, Any]) -> Action | dict[str, Any] | str:
        """The next action.

        Args:
            observation: As `reset` or `step` returned it; `observation["text"]` has it in words.
            info: Likewise.
        """
        ...


@runtime_checkable
class EpisodicAgent(Protocol):
    """An agent that wants to know when an episode begins."""

    def begin(self, record: Path) -> None:
        """An episode has begun.

        Args:
            record: Directory of its record, beside which the agent may leave files of its own.
        """
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an episode, for whoever watches: what was done, and what came of it."""

    number: int
    action: Any
    observation: dict[str, Any]
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


def play(
    env: ResearchEnv,
    agent: Agent,
    *,
    seed: int | None = None,
    options: dict[str, Any] | None = None,
    on_action: Callable[[int, Any], None] | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Step:
    """Play one episode to its end.

    Args:
        env: Where.
        agent: Who; told of the beginning if it is an `EpisodicAgent`.
        seed: See `ResearchEnv.reset`.
        options: See `ResearchEnv.reset`.
        on_action: Called before each step, with its number from 1 and the action.
        on_step: Called after each step.

    Returns:
        The last step; its info holds `"test_score"`.
    """
    observation, info = env.reset(seed=seed, options=options)
    if isinstance(agent, EpisodicAgent) and env.record is not None:
        agent.begin(env.record)
    number = 0
    while True:
        number += 1
        action = agent.act(observation, info)
        if on_action is not None:
            on_action(number, action)
        observation, reward, terminated, truncated, info = env.step(action)
        step = Step(number, action, observation, reward, terminated, truncated, info)
        if on_step is not None:
            on_step(step)
        if terminated or truncated:
            return step
