"""When a command is ended: at its time limit, or soon after its channel was closed."""

from __future__ import annotations

import select
import time

_CLOSED_SECONDS = 1.0  # for a command to end after its channel was closed


class Clock:
    """The end of one command.

    Attributes:
        deadline: When it is ended, on the monotonic clock.
        ending: What its ending is then: "timeout", or "killed" after its channel was closed.
    """

    def __init__(self, seconds: float, end: int | None) -> None:
        """Start the clock.

        Args:
            seconds: The time limit.
            end: A copy of the command's reading end of its channel; None if it has no channel.
        """
        self._started = time.monotonic()
        self._end = end
        self.deadline = self._started + seconds
        self.ending = "timeout"

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def watch(self, poll: select.poll) -> None:
        """Have a poll tell when nobody can write to the channel any more."""
        if self._end is not None:
            poll.register(self._end, 0)

    def look(self, poll: select.poll, ready: set[int]) -> None:
        """Bring the deadline forward if the channel was closed."""
        if self._end is not None and self._end in ready:
            poll.unregister(self._end)
            self.deadline = min(self.deadline, time.monotonic() + _CLOSED_SECONDS)
            self.ending, self._end = "killed", None
