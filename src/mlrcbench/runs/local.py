"""What an executor is, and the first one: processes on this machine."""

from __future__ import annotations

import time
from typing import Any, Protocol

from mlrcbench.runs.episode_process import EpisodeProcess
from mlrcbench.runs.results import Result

POLL_SECONDS = 0.05


class Executor(Protocol):
    """Plays episodes somewhere. Its caller decides which ones, how many at a time and how often."""

    def start(self, request: dict[str, Any]) -> None:
        """Begin to play an episode; see `request_for`."""
        ...

    def finished(self) -> list[Result]:
        """Results of episodes that have ended since the last call; waits a moment if no episode has."""
        ...

    def close(self) -> None:
        """End all episodes that still run."""
        ...


class LocalExecutor:
    """Plays each episode in its own process on this machine."""

    def __init__(self) -> None:
        self._running: list[EpisodeProcess] = []

    def start(self, request: dict[str, Any]) -> None:
        """Begin to play an episode."""
        self._running.append(EpisodeProcess(request))

    def finished(self) -> list[Result]:
        """Results of episodes that have ended."""
        ended = [process for process in self._running if process.ended]
        if not ended:
            time.sleep(POLL_SECONDS)
        self._running = [process for process in self._running if process not in ended]
        return [process.result() for process in ended]

    def close(self) -> None:
        """End all episodes that still run."""
        for process in self._running:
            process.end()
