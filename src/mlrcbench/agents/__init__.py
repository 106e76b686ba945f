"""Agents: anything that chooses an action for an observation.

- Holds: the interface of an agent, the loop that plays an episode, and the agents that come with
  the library: scripted, random, external programs, language models.
- May import: `env`, `protocol`, `llm` and what these import.
- Start reading here, at `play`; then `named.py`, which makes agents from their names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mlrcbench.env.research_env import ResearchEnv
from mlrcbench.protocol.actions import Action


class Agent(Protocol):
    """Anything that plays an episode."""

    def act(self, observation: dict[str, Any], info: dict[str, Any]) -> Action | dict[str, Any] | str:
        """The next action.

        Args:
            observation: The observation that `reset` or `step` returned; its text is `observation["text"]`.
            info: The info that came with it.
        """
        ...


@runtime_checkable
class EpisodicAgent(Protocol):
    """An agent whose `begin` is called when an episode begins."""

    def begin(self, record: Path) -> None:
        """Begin an episode.

        Args:
            record: Directory of the episode's record, in which the agent may write its own files.
        """
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an episode, for callbacks: the action and its result."""

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
        env: The environment.
        agent: The agent; its `begin` is called first if it is an `EpisodicAgent`.
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
