"""Ray: episodes as actors, each in its own process, on one machine or many.

Every machine of the cluster needs mlrcbench and a working sandbox; instances are the same everywhere
if all actors get the same `secret`.
"""

from __future__ import annotations

from typing import Any

import ray

import mlrcbench


def episode_actor(competition: str, **options: Any) -> Any:
    """A handle of a new actor with the methods of `EpisodeActor`; `ray.kill` ends it and its processes.

    Args:
        competition: The competition's id.
        options: Options of `mlrcbench.make`.
    """
    return ray.remote(EpisodeActor).options(num_cpus=1).remote(competition, **options)


class EpisodeActor:
    """One session, as an actor.

    Args:
        competition: The competition's id.
        options: Options of `mlrcbench.make`.
    """

    def __init__(self, competition: str, **options: Any) -> None:
        self._session = mlrcbench.Session(mlrcbench.make(competition, **options))

    def begin(self, seed: int | None = None, instance: int | None = None) -> str:
        """See `Session.begin`."""
        return self._session.begin(seed=seed, instance=instance)

    def call(self, name: str, arguments: dict[str, Any] | None = None) -> mlrcbench.ToolResult:
        """See `Session.call`."""
        return self._session.call(name, arguments)

    def test_score(self) -> dict[str, Any] | None:
        """See `Session.test_score`."""
        return self._session.test_score

    def close(self) -> None:
        """See `Session.close`."""
        self._session.close()
