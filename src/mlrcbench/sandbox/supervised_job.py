"""Jobs: commands that outlive the call that starts them.

A job is confined, limited and watched like any command, but by a separate supervisor. So when a
command ends, its supervisor ends all processes below it, and none of them belongs to a job. The
output of a job goes to a log file, which only the supervisor can write.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import Any

from mlrcbench.errors import SandboxError
from mlrcbench.sandbox.contract import ExecResult, Until, Waited
from mlrcbench.sandbox.supervisor import disk, messages

_GRACE_SECONDS = 60.0


class SupervisedJob:
    """A job, reached through the channel to its supervisor."""

    def __init__(self, channel: socket.socket, home: str) -> None:
        """Take over the channel to a supervisor that has just started the job.

        Args:
            channel: The channel to the job's supervisor.
            home: Private folder of the job, which its supervisor removes if it can; empty if the
                folder exists only inside the sandbox.
        """
        self._channel = channel
        self._home = home
        self._lock = threading.Lock()
        self._result: ExecResult | None = None

    @property
    def result(self) -> ExecResult | None:
        """The job's result, if a call has received it; None while the job may be running."""
        return self._result

    def wait(self, until: Until, seconds: float) -> Waited:
        """See `Job.wait`; the log of a job that has ended is not searched any more."""
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
        result = self._ask({"kill": True}, 0.0).result
        assert result is not None
        return result

    def close(self) -> None:
        """See `Job.close`."""
        with self._lock:
            close_channel(self._channel)

    def interrupt(self) -> None:
        """End the job; a call that waits for it in another thread fails when it has ended."""
        hang_up(self._channel)

    def _ask(self, request: dict[str, Any], seconds: float) -> Waited:
        with self._lock:
            if self._result is not None:
                return Waited("exit", result=self._result)
            try:
                self._channel.settimeout(seconds + _GRACE_SECONDS)
                messages.send(self._channel, request)
                message = messages.receive(self._channel)
            except OSError as error:
                self._channel.close()
                raise SandboxError(f"the job's supervisor was lost: {error}") from error
            if message is None:
                self._channel.close()
                remove_home(self._home)
                raise SandboxError("the job's supervisor has ended, and the job with it")
            answer = message.fields
            if "met" in answer:
                return Waited(answer["met"], end=answer.get("end", 0), why=answer.get("why", ""))
            self._result = read_result(message)
            close_channel(self._channel)
            return Waited("exit", result=self._result)


def close_channel(channel: socket.socket) -> None:
    """Ask a supervisor to end everything, wait until it has, and close the channel."""
    with contextlib.suppress(OSError):
        channel.settimeout(_GRACE_SECONDS)
        messages.send(channel, {"close": True})
    with contextlib.suppress(OSError):
        messages.receive(channel)  # the supervisor closes its side when all processes have ended
    channel.close()


def remove_home(home: str) -> None:
    """Remove a private folder that its supervisor can no longer remove; an empty path names none."""
    if home:
        with contextlib.suppress(OSError):
            disk.empty(home, seconds=_GRACE_SECONDS)
            os.rmdir(home)


def hang_up(channel: socket.socket) -> None:
    """Have a supervisor end everything, also while a call waits for it; that call returns afterwards."""
    with contextlib.suppress(OSError):
        channel.shutdown(socket.SHUT_WR)


def read_result(message: messages.Message) -> ExecResult:
    """The result of a command from its supervisor's message.

    Raises:
        SandboxError: The command could not be started or ended.
    """
    fields = message.fields
    if "error" in fields:
        raise SandboxError(str(fields["error"]))
    status = fields["status"]
    if status is not None and status < 0:
        status = 128 - status
    return ExecResult(
        ending=fields["ending"],
        exit_status=status if fields["ending"] == "exited" else None,
        head=message.blob[: fields["head"]],
        tail=message.blob[fields["head"] :],
        omitted=fields["omitted"],
        wall_seconds=fields["wall_seconds"],
        cpu_seconds=fields["cpu_seconds"],
        peak_memory_bytes=fields["peak_bytes"],
        could_grow=fields["could_grow"],
    )
