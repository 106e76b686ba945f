"""What the host may ask a supervisor while a job runs: to wait for something, or to end the job.

One request is open at a time, and the job's own end answers it. A wait is for the job's end, for
a line that matches a pattern, or for silence, and lasts at most some seconds.
"""

from __future__ import annotations

import math
import select
import socket
import time

from . import messages
from .launcher import Confinement
from .output import OutputRing
from .search import WALL_SECONDS, Search
from .watchdog import later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PERIOD = 0.1


class JobRequests:
    """Takes and answers the host's requests about one job.

    Attributes:
        next_look: When `look` is to be called, on the monotonic clock.
        ended: Whether the host has asked for the job's end.
    """

    def __init__(self, channel: socket.socket, confinement: Confinement) -> None:
        self._channel = channel
        self._confinement = confinement
        self._request: dict[str, Any] | None = {}  # the request to start the job
        self._search: Search | None = None
        self.next_look = math.inf
        self.ended = False

    def open(self, ring: OutputRing, log: int) -> None:
        """Answer that the job has started.

        Args:
            ring: The job's output.
            log: A readable descriptor of the job's log.
        """
        self._ring = ring
        self._log = log
        self._total = 0
        self._last_output = time.monotonic()
        self._answer({"started": True})

    def take(self) -> bool:
        """Receive a request; False if the host is gone."""
        message = messages.receive(self._channel)
        if message is None or message.fields.get("close"):
            return False
        self._request = message.fields
        self.ended = bool(self._request.get("kill"))
        now = self.next_look = time.monotonic()
        self._deadline = now + self._request.get("seconds", 0.0)
        self._start = self._request.get("start", 0)
        self._searched = -1
        self._next_search = now
        return True

    def await_request(self) -> None:
        """After the job's end, wait until a request is open that its result can answer.

        Raises:
            ConnectionError: The host is gone.
        """
        if self._request is None and not self.take():
            raise ConnectionError

    def look(self, poll: select.poll, ready: set[int]) -> None:
        """Answer the open request if what it waits for has happened."""
        now = time.monotonic()
        if self._ring.total != self._total:
            self._total, self._last_output = self._ring.total, now
        if self._search is not None and (self._search.output in ready or now >= self._search_until):
            poll.unregister(self._search.output)
            self._end_search(self._search)
        if self._request is not None and not self.ended:
            self._consider(self._request, poll, now)
        self._plan()

    def _consider(self, request: dict[str, Any], poll: select.poll, now: float) -> None:
        """Answer the open wait, or begin a search for it."""
        if request["until"] == "quiet" and now - self._last_output >= request["quiet"]:
            self._answer({"met": "quiet"})
        elif self._may_search(request) and now >= self._next_search:
            self._search = Search(self._confinement, self._log, request["pattern"], self._start, final=False)
            self._searched, self._search_began = self._total, now
            self._search_until = now + WALL_SECONDS
            poll.register(self._search.output, select.POLLIN)
        elif now >= self._deadline and self._search is None:
            self._answer({"met": "time"})

    def _may_search(self, request: dict[str, Any]) -> bool:
        """Whether some output has not been searched, and no search is running."""
        return request["until"] == "match" and self._search is None and self._searched < self._total

    def close(self) -> None:
        """End a search that is still running."""
        if self._search is not None:
            self._search.close()
            self._search = None

    def _end_search(self, search: Search) -> None:
        result = search.result(0.0)
        self.close()
        self._next_search = later(self._search_began, _PERIOD)
        if "why" in result:
            self._answer({"met": "error", "why": result["why"]})
        elif result["end"] is not None:
            self._answer({"met": "match", "end": result["end"]})
        else:
            self._start = result["searched"]

    def _answer(self, fields: dict[str, Any]) -> None:
        self._request = None
        messages.send(self._channel, fields)

    def _plan(self) -> None:
        """Set when to look again if nothing happens before."""
        request, times = self._request, [math.inf]
        if request is not None and not self.ended:
            times += [self._deadline if self._search is None else self._search_until]
            times += [self._last_output + request["quiet"]] if request["until"] == "quiet" else []
            times += [self._next_search] if self._may_search(request) else []
        self.next_look = min(times)
