"""Jobs: commands that outlive the call that starts them.

A job is confined, limited and watched like any command, by a supervisor of its own. So "no
process is left" stays exact for each: to end a command never means to tell its processes from
those of a job. Its output goes to a log file, which only the supervisor can write.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mlrcbench.errors import SandboxError
from mlrcbench.sandbox import ExecResult
from mlrcbench.sandbox.supervisor import files, wire

_GRACE_SECONDS = 60.0

Met = Literal["exit", "match", "quiet", "time", "error"]


@dataclass(frozen=True, slots=True)
class Until:
    """What to wait for, besides the job's end.

    Attributes:
        kind: "exit" (nothing else), "match" or "quiet".
        pattern: For "match": a regular expression, searched in each complete line of the log.
        start: For "match": bytes of the log that are not searched.
        quiet: For "quiet": seconds without output, counted from the last.
    """

    kind: Literal["exit", "match", "quiet"] = "exit"
    pattern: str = ""
    start: int = 0
    quiet: float = 0.0


@dataclass(frozen=True, slots=True)
class Waited:
    """What a wait came to.

    Attributes:
        met: What happened: the job's end, a match, silence, the end of the time; or "error" for
            a pattern that cannot be used.
        end: For "match": the byte of the log after the line.
        why: For "error": a sentence.
        result: For "exit": what the job did; its ending is "killed" if that was asked for.
    """

    met: Met
    end: int = 0
    why: str = ""
    result: ExecResult | None = None


class Job(Protocol):
    """A job that was started. For one thread, but for `interrupt`."""

    def wait(self, until: Until, seconds: float) -> Waited:
        """Wait for something, and at most so long.

        Raises:
            SandboxError: The supervisor was lost.
        """
        ...

    def kill(self) -> ExecResult:
        """End it, with everything below it; what it did.

        Raises:
            SandboxError: The supervisor was lost.
        """
        ...

    def close(self) -> None:
        """End it, if it runs, and free what it holds. Idempotent."""
        ...


class SupervisedJob:
    """A job behind the channel of its supervisor."""

    def __init__(self, channel: socket.socket, home: str) -> None:
        """Take over a channel on which a job was just started.

        Args:
            channel: To its supervisor.
            home: Its private folder, which the supervisor removes if it can; empty if it is not
                visible from here.
        """
        self._channel = channel
        self._home = home
        self._lock = threading.Lock()
        self._result: ExecResult | None = None

    @property
    def result(self) -> ExecResult | None:
        """What it did, as far as is known here; None while it may run."""
        return self._result

    def wait(self, until: Until, seconds: float) -> Waited:
        """See `Job.wait`; a job that has ended is not searched any more."""
        request = {
            "until": until.kind,
            "pattern": until.pattern,
            "start": until.start,
            "quiet": until.quiet,
            "seconds": seconds,
        }
        return self._ask(request, seconds)

    def kill(self) -> ExecResult:
        """See `Job.kill`."""
        found = self._ask({"kill": True}, 0.0).result
        assert found is not None
        return found

    def close(self) -> None:
        """See `Job.close`."""
        with self._lock:
            close_channel(self._channel)

    def interrupt(self) -> None:
        """End it; whoever waits for it in another thread fails when it is gone."""
        hang_up(self._channel)

    def _ask(self, request: dict[str, Any], seconds: float) -> Waited:
        with self._lock:
            if self._result is not None:
                return Waited("exit", result=self._result)
            try:
                self._channel.settimeout(seconds + _GRACE_SECONDS)
                wire.send(self._channel, request)
                message = wire.receive(self._channel)
            except OSError as error:
                self._channel.close()
                raise SandboxError(f"the job's supervisor was lost: {error}") from error
            if message is None:
                self._channel.close()
                remove_home(self._home)
                raise SandboxError("the job's supervisor has ended, and the job with it")
            told = message.fields
            if "met" in told:
                return Waited(told["met"], end=told.get("end", 0), why=told.get("why", ""))
            self._result = read_result(message)
            close_channel(self._channel)
            return Waited("exit", result=self._result)


def close_channel(channel: socket.socket) -> None:
    """Ask a supervisor to end everything, wait until it has, and close the channel."""
    with contextlib.suppress(OSError):
        channel.settimeout(_GRACE_SECONDS)
        wire.send(channel, {"close": True})
    with contextlib.suppress(OSError):
        wire.receive(channel)  # it closes its side when all have ended
    channel.close()


def remove_home(home: str) -> None:
    """Remove a private folder that its supervisor may not remove any more; none if it is empty."""
    if home:
        with contextlib.suppress(OSError):
            files.empty(home, seconds=_GRACE_SECONDS)
            os.rmdir(home)


def hang_up(channel: socket.socket) -> None:
    """Have a supervisor end everything, whoever is waiting for it: they learn it when it is done."""
    with contextlib.suppress(OSError):
        channel.shutdown(socket.SHUT_WR)


def read_result(message: wire.Message) -> ExecResult:
    """What a supervisor says that a command did.

    Raises:
        SandboxError: It could not be started or ended.
    """
    told = message.fields
    if "error" in told:
        raise SandboxError(str(told["error"]))
    status = told["status"]
    if status is not None and status < 0:
        status = 128 - status
    return ExecResult(
        ending=told["ending"],
        exit_status=status if told["ending"] == "exited" else None,
        head=message.blob[: told["head"]],
        tail=message.blob[told["head"] :],
        omitted=told["omitted"],
        wall_seconds=told["wall_seconds"],
        cpu_seconds=told["cpu_seconds"],
        peak_memory_bytes=told["peak_bytes"],
    )
