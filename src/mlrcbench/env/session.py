"""A session: one episode, driven by tool calls from any thread.

Frameworks that call tools keep calling after the end, call from several threads, and forget to close.
A session holds what they need: the text of each answer, and in the end the reward. It answers every
call; after the end, with an error that says so.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from mlrcbench.env.research_env import ResearchEnv
from mlrcbench.protocol import wording
from mlrcbench.protocol.tools import ToolResult


class Session:
    """Episodes, one after the other, in an environment that the session closes.

    Args:
        env: An environment that nothing else uses.

    Attributes:
        env: The environment.
        reward: Sum of the episode's rewards so far.
        last: The last call's result; None before the first.
        calls: Number of calls that were steps of the episode.
        instance: Seed of the episode's instance; None before the first episode.
    """

    def __init__(self, env: ResearchEnv) -> None:
        self.env = env
        self.reward = 0.0
        self.calls = 0
        self.instance: int | None = None
        self.last: ToolResult | None = None
        self._begun = False
        self._lock = threading.Lock()

    def begin(self, *, seed: int | None = None, instance: int | None = None) -> str:
        """Begin an episode, which ends the one before; returns the agent's briefing.

        Args:
            seed: See `ResearchEnv.reset`.
            instance: The instance, rather than one drawn from the pool.

        Raises:
            DataError, SandboxError: As for `ResearchEnv.reset`.
        """
        with self._lock:
            options = None if instance is None else {"instance": instance}
            observation, info = self.env.reset(seed=seed, options=options)
            self.instance = info["instance"]
            self.reward, self.calls, self.last, self._begun = 0.0, 0, None, True
            return str(observation["text"])

    def call(self, name: str, arguments: Mapping[str, Any] | str | None = None) -> ToolResult:
        """See `ResearchEnv.call_tool`; before an episode and after its end, the result is an error.

        Raises:
            SandboxError, ScoringError, SnapshotError: The infrastructure failed; the episode is over.
        """
        with self._lock:
            if not self._begun or self.done:
                return self._refuse()
            try:
                result = self.env.call_tool(name, arguments)
            except Exception:
                self._begun = False
                raise
            self.reward += result.reward
            self.calls += 1
            self.last = result
            return result

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return self.last is not None and self.last.done

    @property
    def test_score(self) -> dict[str, Any] | None:
        """The score on test, as in a step's info, once the episode is over."""
        return None if self.last is None else self.last.info.get("test_score")

    def close(self) -> None:
        """Close the environment; may be called at any time, and more than once."""
        with self._lock:
            self._begun = False
            self.env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _refuse(self) -> ToolResult:
        if self.last is None or not self.last.done:
            return ToolResult(wording.NO_EPISODE, True, 0.0, False, False, {})
        return ToolResult(wording.EPISODE_IS_OVER, True, 0.0, self.last.terminated, self.last.truncated, {})
