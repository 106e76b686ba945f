"""SkyRL: episodes as environments of `skyrl_gym`, in which a model writes its actions as text.

    skyrl_gym.register(id="mlrcbench", entry_point="mlrcbench.integrations.skyrl:ResearchTextEnv")

The rows of `rows` name this environment. A reply may hold anything around its action, which is the JSON
form in a fenced block. A failure of the infrastructure is an exception, since no reward would be right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput

import mlrcbench
from mlrcbench.agents.prompts import SYSTEMS
from mlrcbench.agents.styles import read_wishes
from mlrcbench.llm import Reply, Usage

ENVIRONMENT = "mlrcbench"
_OPTIONS = ("tier", "sandbox", "budget", "secret", "reward", "clip", "final", "records")


class ResearchTextEnv(BaseTextEnv):
    """One episode.

    Args:
        env_config: Options of `mlrcbench.make`, the same for all rows.
        extras: The row: "competition", "instance", and further options.
    """

    def __init__(self, env_config: Any = None, extras: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        row = {**dict(env_config or {}), **dict(extras or {})}
        options = {name: row[name] for name in _OPTIONS if row.get(name) is not None}
        self._env = mlrcbench.make(row["competition"], instances=[row.get("instance", 0)], **options)
        self._return = 0.0
        self._test: dict[str, Any] | None = None

    def init(self, prompt: list[dict[str, str]]) -> tuple[list[dict[str, str]], dict[str, Any]]:
        """Begin the episode: its briefing follows the row's prompt."""
        observation, info = self._env.reset()
        return [*prompt, {"role": "user", "content": observation["text"]}], info

    def step(self, action: str) -> BaseTextEnvStepOutput:
        """Carry out the action in a reply; a reply without one is answered with an error.

        Raises:
            SandboxError, ScoringError, SnapshotError: The infrastructure failed; the episode has no reward.
        """
        self.turns += 1
        wishes, _ = read_wishes("text", Reply(action, (), Usage(), "stop", {}))
        form = wishes[0].form if wishes else action
        observation, reward, terminated, truncated, info = self._env.step(form)
        self._return += reward
        self._test = info.get("test_score")
        done = terminated or truncated
        messages = [] if done else [{"role": "user", "content": observation["text"]}]
        return BaseTextEnvStepOutput(observations=messages, reward=reward, done=done, metadata=info)

    def get_metrics(self) -> dict[str, float]:
        """The return, and whether the episode had a valid score on test."""
        valid = self._test is not None and self._test["value"] is not None
        return {"return": self._return, "valid": float(valid)}

    def close(self) -> None:
        """End the episode."""
        self._env.close()


def rows(competition: str, instances: Iterable[int], **options: Any) -> list[dict[str, Any]]:
    """Rows of a dataset, one for each instance.

    Args:
        competition: The competition's id.
        instances: Seeds of the instances.
        options: Further options of `mlrcbench.make`, for example `reward="shaped"`.
    """
    prompt = [{"role": "system", "content": SYSTEMS["text"]}]
    row = {"prompt": prompt, "env_class": ENVIRONMENT, "competition": competition, **options}
    return [{**row, "instance": instance} for instance in instances]
