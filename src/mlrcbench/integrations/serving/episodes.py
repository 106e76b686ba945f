"""Episodes in a server: a table of limited size, in which no episode outlives its time.

Servers of all protocols share it. A table makes environments, gives each to one holder of a secret token,
and ends it, with everything that it has started, when it has been idle or has lived too long. The agent's
side gets `Hosted.call` and nothing else: it cannot begin a second episode, see another one, or learn its
score on test before its episode is over. Everything else is for the host.

Any thread may call. An episode answers one call at a time, and refuses a second one instead of letting it
wait, so that callers never hold more threads than there are episodes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mlrcbench
from mlrcbench.text import plain

_log = logging.getLogger(__name__)
_MAX_FINISHED = 1_000  # finished episodes whose results the host can still read


class Full(mlrcbench.MlrcbenchError):
    """No further episode can be opened now."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits on the episodes of one server.

    Attributes:
        sessions: How many episodes may be open at once.
        idle_seconds: Seconds without a call after which an episode is ended. A running call is not idle.
        lifetime_seconds: Seconds after which any episode is ended.
        calls_per_minute: How often an episode may be called; the same number of calls may come at once.
    """

    sessions: int = 16
    idle_seconds: float = 1_800.0
    lifetime_seconds: float = 86_400.0
    calls_per_minute: float = 600.0


class Rate:
    """A limit on a rate: a bucket that holds one minute's worth and refills steadily."""

    def __init__(self, per_minute: float) -> None:
        self.per_minute = self._left = per_minute
        self._at = time.monotonic()

    def take(self) -> bool:
        """Whether one more is within the rate; if so, it is counted."""
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
        id: The episode's public name.
        token: The secret of the program that may call it.
        session: The session that plays it.
        begun: Whether it has begun, by its first call or by `begin`.
        answer: The answer to the last call that was carried out, which its caller may have lost.
        ended: Why the server ended it; empty while it is open.
        failure: What failed in the infrastructure, so that the episode has no score; otherwise empty.
    """

    def __init__(self, env: mlrcbench.ResearchEnv, limits: ServerLimits) -> None:
        self.id = secrets.token_hex(8)
        self.token = secrets.token_urlsafe(24)
        self.session = mlrcbench.Session(env)
        self.ended = ""
        self.failure = ""
        self._limits = limits
        self._rate = Rate(limits.calls_per_minute)
        self._busy = threading.Lock()
        self._ending = threading.Lock()
        self.begun = False
        self.answer: mlrcbench.ToolResult | None = None
        self._briefing = ""
        self._opened = self._touched = time.monotonic()

    def begin(self, seed: int | None = None, instance: int | None = None) -> str:
        """Begin the episode, which is possible once, and return the agent's briefing; see `Session.begin`.

        Raises:
            Full: The episode has begun, or is over.
            DataError, SandboxError: As for `ResearchEnv.reset`.
        """
        with self._busy:
            try:
                return self._begin(seed, instance)
            finally:
                self._touched = time.monotonic()

    def brief(self) -> mlrcbench.ToolResult:
        """The agent's briefing, as often as it is asked for; the first time begins the episode. Never raises.

        It costs no step.
        """
        if self._briefing:
            return mlrcbench.ToolResult(self._briefing, False, 0.0, False, False, {})
        if not self._busy.acquire(blocking=False):
            return BUSY
        try:
            if self.ended and not self.session.done:
                return _refusal(f"the episode is over: {self.ended}")
            self._begin()
            return mlrcbench.ToolResult(self._briefing, False, 0.0, False, False, {})
        except Exception as error:
            return self._failed(error)
        finally:
            self._touched = time.monotonic()
            self._busy.release()

    def call(self, name: str, arguments: Mapping[str, Any] | str | None = None) -> mlrcbench.ToolResult:
        """Answer a call of the agent; the first one begins the episode. Never raises; blocks.

        Failures of the host are logged here; the agent gets no details of them. A result consists of plain
        values only; see `plain`.
        """
        if not self._busy.acquire(blocking=False):
            return BUSY
        try:
            if self.ended and not self.session.done:
                return _refusal(f"the episode is over: {self.ended}")
            if not self._rate.take():
                return _refusal(f"more than {self._limits.calls_per_minute:g} calls a minute; wait a moment")
            result = self._call(plain(str(name)), plain(arguments))
            self.answer = dataclasses.replace(result, text=plain(result.text), info=plain(result.info))
            return self.answer
        finally:
            self._touched = time.monotonic()
            self._busy.release()

    @property
    def busy(self) -> bool:
        """Whether a call is being carried out at this moment."""
        return self._busy.locked()

    @property
    def briefed(self) -> bool:
        """Whether the episode has begun and its first observation is there."""
        return bool(self._briefing)

    @property
    def unscored(self) -> str:
        """Why the episode is over without a result, which is not a reward of 0; otherwise empty."""
        return self.ended if self.ended and not self.session.done else ""

    def end(self, reason: str) -> None:
        """End the episode with all its processes and files, even during a call; may be called again."""
        self.ended = self.ended or reason
        self.session.env.interrupt(self.ended)
        with self._ending:
            self.session.close()

    @property
    def overdue(self) -> str:
        """Why the episode should be ended now; empty if it should not."""
        now = time.monotonic()
        if now - self._opened > self._limits.lifetime_seconds:
            return f"it has lasted {self._limits.lifetime_seconds:g} seconds"
        idle = now - self._touched > self._limits.idle_seconds
        if self.begun and idle and not self._busy.locked():
            return f"it was idle for {self._limits.idle_seconds:g} seconds"
        return ""

    def summary(self) -> dict[str, Any]:
        """The state of the episode for the host, as JSON types."""
        session, record = self.session, self.session.env.record
        return {
            "id": self.id,
            "begun": self.begun,
            "done": session.done,
            "ended": self.ended,
            "failure": self.failure,
            "calls": session.calls,
            "reward": session.reward,
            "test_score": plain(session.test_score),
            "record": None if record is None else str(record),
            "age_seconds": round(time.monotonic() - self._opened, 1),
        }

    def _begin(self, seed: int | None = None, instance: int | None = None) -> str:
        if self.begun or self.ended:
            raise Full("an episode begins once; open another one")
        self.begun = True
        self._briefing = plain(self.session.begin(seed=seed, instance=instance))
        return self._briefing

    def _call(self, name: str, arguments: Mapping[str, Any] | str | None) -> mlrcbench.ToolResult:
        try:
            if not self.begun:
                self._begin()
            result = self.session.call(name, arguments)
        except Exception as error:
            return self._failed(error)
        if result.done:
            self.ended = self.ended or "done"
            self.session.close()
        return result

    def _failed(self, error: Exception) -> mlrcbench.ToolResult:
        """End the episode after a failure of the infrastructure; returns what the agent is told."""
        if not self.ended:
            _log.error("episode %s failed", self.id, exc_info=error)
            self.ended = f"failed: {type(error).__name__}"
            self.failure = plain(str(error)) or type(error).__name__
        self.session.close()
        return _refusal("the episode is over: the server ended it, or failed; not your fault")


class SessionTable:
    """The episodes of a server.

    Args:
        make: Makes an environment.
        limits: Limits on the episodes.

    Attributes:
        make: See above.
        limits: See above.
    """

    def __init__(self, make: Callable[[], mlrcbench.ResearchEnv], limits: ServerLimits | None = None) -> None:
        self.limits = limits or ServerLimits()
        self.make = make
        self._all: dict[str, Hosted] = {}
        self._tokens: dict[bytes, Hosted] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._reaper: threading.Thread | None = None

    def open(self) -> Hosted:
        """Open an episode, which its first call begins; until then it only takes up a place in the table.

        Raises:
            Full: As many episodes are open as the limits allow, or the table is closed.
        """
        with self._lock:
            if self._closed.is_set():
                raise Full("the server is stopping")
            if self.open_count >= self.limits.sessions:
                raise Full(f"all {self.limits.sessions} episodes of this server are in use; try again later")
            hosted = Hosted(self.make(), self.limits)
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
        """The episode that a token belongs to; the comparison takes the same time for every token."""
        return self._tokens.get(_digest(token))

    def get(self, id: str) -> Hosted | None:
        """The episode of an id, if there is one."""
        return self._all.get(id)

    def summaries(self) -> list[dict[str, Any]]:
        """Summaries of all episodes in the table."""
        with self._lock:
            hosted = list(self._all.values())
        return [one.summary() for one in hosted]

    @property
    def open_count(self) -> int:
        """How many episodes are open."""
        return sum(not one.ended for one in self._all.values())

    def reap(self) -> None:
        """End overdue episodes, each in its own thread, as an end may have to wait for a process."""
        with self._lock:
            overdue = [(one, one.overdue) for one in self._all.values() if not one.ended]
        for hosted, reason in overdue:
            if reason:
                hosted.ended = reason
                threading.Thread(target=hosted.end, args=(reason,), name="mlrcbench-end").start()

    def close(self) -> None:
        """End all episodes, and open no more; may be called again."""
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
        for one in finished[: max(0, len(finished) - _MAX_FINISHED)]:
            del self._all[one.id], self._tokens[_digest(one.token)]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _refusal(reason: str) -> mlrcbench.ToolResult:
    return mlrcbench.ToolResult(f"error: {reason}", True, 0.0, False, False, {})


BUSY = _refusal("the previous call is still running; wait for its answer")
