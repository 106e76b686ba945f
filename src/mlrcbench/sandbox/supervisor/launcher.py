"""The process that starts a command: it confines itself, waits, and starts the shell.

It may be forked before its command is known. While it waits it is already confined, and holds
nothing but its ends of a socket and of the output pipe. It does not become the shell but spawns
it and ends: freeing the memory of a forked interpreter takes longer than the whole start of the
shell, and so happens at the same time. The shell, an orphan, becomes the supervisor's child.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import socket

from . import kernel, landlock, messages, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHANNEL = 3
_FIRST_END = 3  # where a command finds the ends of its channel
# Signals that Python or the supervisor ignores, and a shell must not ignore.
_SIGNALS = (
    signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT,
    signal.SIGCHLD,
)  # fmt: skip


class Confinement:
    """How a launcher confines itself.

    Attributes:
        proc: An open descriptor of a /proc in which the launcher can write to its own entry.
        uid: The user to become; None keeps the supervisor's.
        ruleset: Landlock rules, or None.
        filter_code: A seccomp program, or None.
        asks_to_connect: Whether the filter hands `connect` to the supervisor.
        enabled: Whether to confine at all; if not, the launcher stays a plain process.
    """

    def __init__(
        self,
        proc: int,
        *,
        uid: int | None = None,
        ruleset: landlock.Ruleset | None = None,
        filter_code: bytes | None = None,
        asks_to_connect: bool = False,
        enabled: bool = True,
    ) -> None:
        self.proc = proc
        self.uid = uid
        self.ruleset = ruleset
        self.filter_code = filter_code
        self.asks_to_connect = asks_to_connect
        self.enabled = enabled

    def apply(self) -> int | None:
        """Confine this process for good.

        Returns:
            A descriptor for the supervisor, to answer what the filter hands to it; None if that is nothing.

        Raises:
            OSError: The kernel refused; the process must end.
        """
        if not self.enabled:
            return None
        kernel.drop_privileges(self.uid)
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        if self.ruleset is not None:
            self.ruleset.restrict_self()
        if self.filter_code is not None and self.asks_to_connect:
            return seccomp.install_supervised(self.filter_code)
        if self.filter_code is not None:
            seccomp.install(self.filter_code)
        return None


class Launcher:
    """A forked process that waits for its command, as its supervisor sees it.

    Attributes:
        pid: The launcher's process number; after `start`, that of the command's main process.
        output: The reading end of the command's standard output and error.
        listener: A descriptor to answer what the command's filter hands over; None if that is nothing.
    """

    def __init__(self, confinement: Confinement) -> None:
        """Fork the process.

        Raises:
            OSError: The system has no more processes or descriptors.
        """
        self._channel, theirs = socket.socketpair()
        self.output, write_end = os.pipe()
        self.listener: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _main(confinement, theirs.fileno(), write_end)
            finally:
                os._exit(126)
        theirs.close()
        os.close(write_end)
        os.set_blocking(self.output, False)

    def start(self, command: dict[str, Any], ends: tuple[int, ...] = ()) -> None:
        """Have the launcher start a command.

        Args:
            command: `argv`, `env`, `cwd` and `rlimits` (name to value).
            ends: Descriptors that the command gets as its descriptors 3 and 4.

        Raises:
            OSError: The launcher could not confine itself; nothing of the command has run.
        """
        answer = messages.receive(self._channel)
        if answer is None:
            raise OSError("the launcher ended before it was used")
        if "error" in answer.fields:
            raise OSError(answer.fields["error"])
        self.listener = answer.descriptors[0] if answer.descriptors else None
        messages.send(self._channel, command, descriptors=ends)
        started = messages.receive(self._channel)
        self._channel.close()
        if started is not None:  # if not, the output says why, and the launcher's end is the command's end
            self.pid = started.fields["pid"]

    def close(self) -> None:
        """Close the supervisor's side; a launcher that still waits ends."""
        self._channel.close()
        os.close(self.output)
        if self.listener is not None:
            os.close(self.listener)


def _main(confinement: Confinement, control: int, output: int) -> None:
    """Everything that the launcher does after the fork."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDONLY)
    control = fcntl.fcntl(control, fcntl.F_DUPFD_CLOEXEC, _CHANNEL + 7)  # so that no dup2 closes it
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    channel = socket.socket(fileno=control)
    try:
        prefer_for_killing(confinement.proc)
        listener = confinement.apply()
    except OSError as error:
        messages.send(channel, {"error": f"the command could not be confined: {error}"})
        return
    messages.send(channel, {"ready": True}, descriptors=() if listener is None else (listener,))
    channel.detach()
    os.dup2(control, _CHANNEL, inheritable=False)
    os.closerange(_CHANNEL + 1, 1 << 20)
    channel = socket.socket(fileno=_CHANNEL)
    message = messages.receive(channel)
    if message is not None:
        _spawn(channel, message.fields, message.descriptors)


def _spawn(channel: socket.socket, command: dict[str, Any], ends: list[int]) -> None:
    """Set the limits, start the shell, and send its process number to the supervisor."""
    try:
        for name, value in command["rlimits"].items():
            limit(getattr(resource, name), value)
        os.chdir(command["cwd"])
        os.umask(0o022)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        for end in ends:
            os.set_inheritable(end, False)  # the command gets its copies only
        actions = [(os.POSIX_SPAWN_DUP2, end, number) for number, end in enumerate(ends, _FIRST_END)]
        pid = os.posix_spawn(command["argv"][0], command["argv"], command["env"], file_actions=actions)
        messages.send(channel, {"pid": pid})
        os._exit(0)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        os.write(2, f"the command could not be started: {reason}\n".encode(errors="replace"))


def limit(which: int, value: int) -> None:
    """Lower a resource limit for good; a limit that is lower already stays."""
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def prefer_for_killing(proc: int) -> None:
    """Let the kernel end this process first when the machine runs out of memory."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # else /proc/self belongs to root
    with contextlib.suppress(OSError):
        descriptor = os.open("self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
        try:
            os.write(descriptor, b"1000")
        finally:
            os.close(descriptor)
