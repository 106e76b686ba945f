"""Episodes in a server: a bounded table, in which nothing outlives its time.

What servers of any protocol share. A table makes environments, hands each to one holder of a
secret token, and ends it when it has been idle or has lived too long, with everything it has
started. The agent's side gets `Hosted.call` and nothing else: it cannot begin a second episode,
see another, or learn its score on test before its episode is over. The rest is for the host.

Threads: calls come from any. An episode answers one call at a time, and refuses a second one
rather than let it wait, so that callers never hold more threads than there are episodes.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mlrcbench

_log = logging.getLogger(__name__)
_KEPT = 1_000  # finished episodes whose results can still be asked for


class Full(mlrcbench.MlrcbenchError):
    """No further episode can be opened now."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server gives away at most.

    Attributes:
        sessions: Episodes that are open at once.
        idle_seconds: Without a call, until an episode is ended. A running call is not idle.
        lifetime_seconds: Of an episode, whatever it does.
        calls_per_minute: Of an episode; as many may come at once.
    """

    sessions: int = 16
    idle_seconds: float = 1_800.0
    lifetime_seconds: float = 86_400.0
    calls_per_minute: float = 600.0


class Rate:
    """A bucket that holds a minute's worth and refills steadily."""

    def __init__(self, per_minute: float) -> None:
        self.per_minute = self._left = per_minute
        self._at = time.monotonic()

    def take(self) -> bool:
        """Whether one more is within the rate."""
        now = time.monotonic()
        self._left = min(self.per_minute, self._left + (now - self._at) * self.per_minute / 60)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Hosted:
    """One episode of a server; made by a table.

    Attributes:
        id: Its public name.
        token: The secret of whoever may call it.
        session: What it calls.
        begun: Whether its first call, or `begin`, has come.
        ended: Why it is over for the server; empty while it is open.
    """

    def __init__(self, env: mlrcbench.ResearchEnv, limits: Limits) -> None:
        self.id = secrets.token_hex(8)
        self.token = secrets.token_urlsafe(24)
        self.session = mlrcbench.Session(env)
        self.ended = ""
        self._limits = limits
        self._rate = Rate(limits.calls_per_minute)
        self._busy = threading.Lock()
        self._ending = threading.Lock()
        self.begun = False
        self._opened = self._touched = time.monotonic()

    def begin(self, seed: int | None = None, instance: int | None = None) -> str:
        """Begin the episode, once; the text is the agent's briefing. See `Session.begin`.

        Raises:
            Full: It has begun, or is over.
            DataError, SandboxError: As for `ResearchEnv.reset`.
        """
        with self._busy:
            try:
                return self._begin(seed, instance)
            finally:
                self._touched = time.monotonic()

    def call(self, name: str, arguments: Mapping[str, Any] | str | None = None) -> mlrcbench.ToolResult:
        """A call of the agent, in the episode that the first one begins. Never raises; blocks.

        What the host got wrong is logged here, and told to the agent without its details.
        """
        if not self._busy.acquire(blocking=False):
            return _refusal("the previous call is still running; wait for its answer")
        try:
            if self.ended and not self.session.done:
                return _refusal(f"the episode is over: {self.ended}")
            if not self._rate.take():
                return _refusal(f"more than {self._limits.calls_per_minute:g} calls a minute; wait a moment")
            return self._call(name, arguments)
        finally:
            self._touched = time.monotonic()
            self._busy.release()

    def end(self, reason: str) -> None:
        """End it with all its processes and files, also in the middle of a call; may be called again."""
        self.ended = self.ended or reason
        self.session.env.interrupt(self.ended)
        with self._ending:
            self.session.close()

    @property
    def overdue(self) -> str:
        """Why it should be ended now; empty if it should not."""
        now = time.monotonic()
        if now - self._opened > self._limits.lifetime_seconds:
            return f"it has lasted {self._limits.lifetime_seconds:g} seconds"
        idle = now - self._touched > self._limits.idle_seconds
        if self.begun and idle and not self._busy.locked():
            return f"it was idle for {self._limits.idle_seconds:g} seconds"
        return ""

    def summary(self) -> dict[str, Any]:
        """For the host: what became of it so far, JSON."""
        session, record = self.session, self.session.env.record
        return {
            "id": self.id,
            "begun": self.begun,
            "done": session.done,
            "ended": self.ended,
            "calls": session.calls,
            "reward": session.reward,
            "test_score": session.test_score,
            "record": None if record is None else str(record),
            "age_seconds": round(time.monotonic() - self._opened, 1),
        }

    def _begin(self, seed: int | None = None, instance: int | None = None) -> str:
        if self.begun or self.ended:
            raise Full("an episode begins once; open another one")
        self.begun = True
        return self.session.begin(seed=seed, instance=instance)

    def _call(self, name: str, arguments: Mapping[str, Any] | str | None) -> mlrcbench.ToolResult:
        try:
            if not self.begun:
                self._begin()
            result = self.session.call(name, arguments)
        except Exception as error:
            if not self.ended:
                _log.exception("episode %s failed", self.id)
                self.ended = f"failed: {type(error).__name__}"
            self.session.close()
            return _refusal("the episode is over: the server ended it, or failed; not your fault")
        if result.done:
            self.ended = self.ended or "done"
            self.session.close()
        return result


class SessionTable:
    """The episodes of a server.

    Args:
        make: Makes an environment.
        limits: What is given away.
    """

    def __init__(self, make: Callable[[], mlrcbench.ResearchEnv], limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._make = make
        self._all: dict[str, Hosted] = {}
        self._tokens: dict[bytes, Hosted] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._reaper: threading.Thread | None = None

    def open(self) -> Hosted:
        """An episode, which its first call begins; until then it holds nothing but its place.

        Raises:
            Full: There are as many as the limits allow, or the table is closed.
        """
        with self._lock:
            if self._closed.is_set():
                raise Full("the server is stopping")
            if self.open_count >= self.limits.sessions:
                raise Full(f"all {self.limits.sessions} episodes of this server are in use; try again later")
            hosted = Hosted(self._make(), self.limits)
            self._all[hosted.id] = hosted
            self._tokens[_digest(hosted.token)] = hosted
            self._forget_oldest()
            if self._reaper is None:
                self._reaper = threading.Thread(
                    target=self._reap_forever, name="mlrcbench-reaper", daemon=True
                )
                self._reaper.start()
            return hosted

    def find(self, token: str) -> Hosted | None:
        """The episode whose token it is; the comparison takes the same time for every token."""
        return self._tokens.get(_digest(token))

    def get(self, id: str) -> Hosted | None:
        """The episode of that id."""
        return self._all.get(id)

    def summaries(self) -> list[dict[str, Any]]:
        """All episodes, the latest results included."""
        with self._lock:
            hosted = list(self._all.values())
        return [one.summary() for one in hosted]

    @property
    def open_count(self) -> int:
        """How many are open."""
        return sum(not one.ended for one in self._all.values())

    def reap(self) -> None:
        """End what is overdue, each in a thread of its own, as an end may have to wait for a process."""
        with self._lock:
            overdue = [(one, one.overdue) for one in self._all.values() if not one.ended]
        for hosted, reason in overdue:
            if reason:
                hosted.ended = reason
                threading.Thread(target=hosted.end, args=(reason,), name="mlrcbench-end").start()

    def close(self) -> None:
        """End all of them, and take no more; may be called again."""
        self._closed.set()
        with self._lock:
            hosted = list(self._all.values())
        threads = [threading.Thread(target=one.end, args=("the server stopped",)) for one in hosted]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._reaper is not None:
            self._reaper.join()

    def _reap_forever(self) -> None:
        while not self._closed.wait(min(1.0, self.limits.idle_seconds / 4)):
            self.reap()

    def _forget_oldest(self) -> None:
        finished = [one for one in self._all.values() if one.ended]
        for one in finished[: max(0, len(finished) - _KEPT)]:
            del self._all[one.id], self._tokens[_digest(one.token)]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _refusal(words: str) -> mlrcbench.ToolResult:
    return mlrcbench.ToolResult(f"error: {words}", True, 0.0, False, False, {})
