"""The child that starts a command: it confines itself, waits, and starts the shell.

It may be forked ahead of the command it is for. While it waits it is already confined, and
holds nothing but its end of a socket and of the output pipe. It does not become the shell but
spawns it and ends: freeing the memory of a forked interpreter takes longer than the shell's
whole start, and so happens beside it. The shell, an orphan, becomes the supervisor's child.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import socket

from . import kernel, rules, seccomp, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_GO = 3
# What Python or the supervisor ignores, and a shell must not.
_SIGNALS = (
    signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT,
    signal.SIGCHLD,
)  # fmt: skip


class Confinement:
    """What a child does to itself.

    Attributes:
        proc: An open view of /proc in which the child can write to its own entry.
        uid: A user to become; None keeps the supervisor's.
        ruleset: Landlock rules, or None.
        filter_code: A seccomp program, or None.
        enabled: False leaves a plain process.
    """

    def __init__(
        self,
        proc: int,
        *,
        uid: int | None = None,
        ruleset: rules.Ruleset | None = None,
        filter_code: bytes | None = None,
        enabled: bool = True,
    ) -> None:
        self.proc = proc
        self.uid = uid
        self.ruleset = ruleset
        self.filter_code = filter_code
        self.enabled = enabled

    def apply(self) -> None:
        """Confine this process for good.

        Raises:
            OSError: The kernel refused; the process must end.
        """
        if not self.enabled:
            return
        kernel.drop_privileges(self.uid)
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        if self.ruleset is not None:
            self.ruleset.restrict_self()
        if self.filter_code is not None:
            seccomp.install(self.filter_code)


class Child:
    """A forked child, waiting for its command.

    Attributes:
        pid: Its process number; after `start`, that of the command's main process.
        output: The reading end of its standard output and error.
    """

    def __init__(self, confinement: Confinement) -> None:
        """Fork it.

        Raises:
            OSError: There are no more processes or descriptors.
        """
        self._go, theirs = socket.socketpair()
        self.output, write_end = os.pipe()
        self._ready = False
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _main(confinement, theirs.fileno(), write_end)
            finally:
                os._exit(126)
        theirs.close()
        os.close(write_end)
        os.set_blocking(self.output, False)

    def start(self, command: dict[str, Any]) -> None:
        """Let it start the command.

        Args:
            command: `argv`, `env`, `cwd` and `rlimits` (name to value).

        Raises:
            OSError: It could not be confined; nothing of the command has run.
        """
        answer = wire.receive(self._go)
        if answer is None:
            raise OSError("the confined child ended before it was used")
        if "error" in answer.fields:
            raise OSError(answer.fields["error"])
        wire.send(self._go, command)
        started = wire.receive(self._go)
        self._go.close()
        if started is not None:  # else it said why not in the output, and its own end is the command's
            self.pid = started.fields["pid"]

    def close(self) -> None:
        """Close this side; a child still waiting ends."""
        self._go.close()
        os.close(self.output)


def _main(confinement: Confinement, go: int, output: int) -> None:
    """Everything between fork and exec."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDONLY)
    go = fcntl.fcntl(go, fcntl.F_DUPFD_CLOEXEC, _GO + 7)  # away from the place it is moved to
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    channel = socket.socket(fileno=go)
    try:
        prefer_for_killing(confinement.proc)
        confinement.apply()
    except OSError as error:
        wire.send(channel, {"error": f"the command could not be confined: {error}"})
        return
    channel.detach()
    os.dup2(go, _GO, inheritable=False)
    os.closerange(_GO + 1, 1 << 20)
    channel = socket.socket(fileno=_GO)
    wire.send(channel, {"ready": True})
    message = wire.receive(channel)
    if message is not None:
        _spawn(channel, message.fields)


def _spawn(channel: socket.socket, command: dict[str, Any]) -> None:
    """Set the limits, start the shell, and tell its process number."""
    try:
        for name, value in command["rlimits"].items():
            limit(getattr(resource, name), value)
        os.chdir(command["cwd"])
        os.umask(0o022)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        pid = os.posix_spawn(command["argv"][0], command["argv"], command["env"])
        wire.send(channel, {"pid": pid})
        os._exit(0)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        os.write(2, f"the command could not be started: {why}\n".encode(errors="replace"))


def limit(which: int, value: int) -> None:
    """Lower a limit for good; one that is lower already stays."""
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def prefer_for_killing(proc: int) -> None:
    """When the machine runs out of memory, the kernel is to end this process first."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # else /proc/self belongs to root
    with contextlib.suppress(OSError):
        descriptor = os.open("self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
        try:
            os.write(descriptor, b"1000")
        finally:
            os.close(descriptor)
