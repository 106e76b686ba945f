"""A competition in numbers: a menu of actions as `Discrete`, features of the episode as `Box`.

It is for libraries of reinforcement learning whose policies cannot read or write text. The caller
chooses the actions: versions of a file, commands, evaluations. Nothing is simulated: every choice is
carried out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

import mlrcbench

Features = npt.NDArray[np.float32]


class MenuEnv(gymnasium.Env[Features, np.int64]):
    """An environment of choices.

    An observation has 3 + n + 1 numbers in [0, 1], for a menu of n actions: the shares of steps
    and evaluations that are left, the best improvement on dev up to 1, and the last choice as n + 1 numbers,
    of which one is 1 (the first number stands for no choice). It does not depend on the clock.

    Args:
        env: The environment, which this one owns from now on and closes.
        menu: The choices: actions, or their JSON form.

    Raises:
        ValueError: The menu is empty.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (as Gymnasium declares it)

    def __init__(self, env: mlrcbench.ResearchEnv, menu: Sequence[Any]) -> None:
        if not menu:
            raise ValueError("the menu is empty; [mlrcbench.Submit()] is the shortest that ends")
        self.env = env
        self.menu = tuple(menu)
        self.action_space = gymnasium.spaces.Discrete(len(self.menu))
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (4 + len(self.menu),), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Features, dict[str, Any]]:
        """See `ResearchEnv.reset`."""
        super().reset(seed=seed)
        observation, info = self.env.reset(seed=seed, options=options)
        return self._features(observation, 0), info

    def step(self, action: np.int64 | int) -> tuple[Features, float, bool, bool, dict[str, Any]]:
        """Carry out one action of the menu; see `ResearchEnv.step`."""
        observation, reward, terminated, truncated, info = self.env.step(self.menu[int(action)])
        return self._features(observation, int(action) + 1), reward, terminated, truncated, info

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _features(self, observation: dict[str, Any], last: int) -> Features:
        budget = self.env.budget
        features = np.zeros(self.observation_space.shape or (), np.float32)
        features[0] = observation["steps_left"][0] / max(1, budget.steps)
        features[1] = observation["evaluations_left"][0] / max(1, budget.evaluations)
        features[2] = min(1.0, observation["best_improvement"][0])
        features[3 + last] = 1.0
        return features
