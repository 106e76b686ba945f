"""The fork server: a small process that forks supervisors, and cleans up after one that was killed.

The host process may be large and have threads, so that forking it is slow and unsafe. Instead it
starts this process once, and every supervisor is a fork of it: that takes two milliseconds, and
nearly all memory is shared. The fork server ends when the host process does.

A supervisor that the kernel killed cannot end its command. In a process namespace the command
dies with it; without one its processes become children of the fork server, which ends them.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket

from . import control_group, kernel, loop, messages, seccomp
from .process_tree import ProcessTree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_END_SECONDS = 60.0


class ForkServer:
    """Forks a supervisor for each socket that it receives."""

    def __init__(self, channel: socket.socket, view: dict[str, Any]) -> None:
        self._channel = channel
        self._view = view
        self._supervisors: set[int] = set()
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._processes = ProcessTree(namespaced=False, uid=None, proc=proc)
        self._woken, wake = os.pipe()
        for descriptor in (self._woken, wake):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Fork supervisors until the host process is gone."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            ready = {number for number, _ in poll.poll()}
            if self._woken in ready:
                os.read(self._woken, 1 << 12)
                self._clean()
            if self._channel.fileno() in ready:
                message = messages.receive(self._channel)
                if message is None:
                    self._remove_groups()
                    return
                self._fork(message.descriptors[0])

    def _fork(self, control: int) -> None:
        pid = os.fork()
        if pid:
            self._supervisors.add(pid)
            os.close(control)
            return
        try:
            signal.set_wakeup_fd(-1)
            self._channel.close()
            loop.main(control, self._view)
        finally:
            os._exit(0)

    def _clean(self) -> None:
        """Reap the processes that have ended, and end those that a killed supervisor has left."""
        self._processes.begin()
        self._processes.reap()
        for pid in list(self._supervisors):
            if self._processes.status(pid) is not None:
                self._supervisors.discard(pid)
        while orphans := [pid for pid in self._processes.children() if self._is_orphan(pid)]:
            for pid in [*orphans, *self._processes.below(orphans)]:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._processes.reap()
        control_group.remove(self._view["groups"], os.getpid())

    def _remove_groups(self) -> None:
        """Have the groups of supervisors that are just ending removed by a process that waits for them."""
        groups, owner = self._view["groups"], os.getpid()
        if not control_group.remove(groups, owner) and os.fork() == 0:
            control_group.remove(groups, owner, seconds=_END_SECONDS)
            os._exit(0)

    def _is_orphan(self, pid: int) -> bool:
        """Whether a child is neither a supervisor nor the first process of a namespace."""
        if pid in self._supervisors:
            return False
        try:
            status = self._processes.read(f"{pid}/status")
        except OSError:
            return False
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        ended = "Z" in fields["State"] and int(fields["Threads"]) == 1  # threads outlive the main one
        return not ended and len(fields["NSpid"].split()) == 1


def main(control: str) -> None:
    """Run as the fork server.

    Args:
        control: Number of the descriptor of a connected socket. Its first message holds the view, see
            `setup.prepare`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o022)  # the host's may keep other users out of what supervisors make
    channel = socket.socket(fileno=int(control))
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    message = messages.receive(channel)
    if message is None:
        return
    try:
        view = _open(message.fields)
    except OSError as error:
        messages.send(channel, {"error": f"{error}"})
        return
    messages.send(channel, {"ready": True})
    for namespaced in (False, True):  # the filters of nearly all sandboxes are made once, here
        seccomp.program(network=False, namespaced=namespaced, memfd=False)
    gc.disable()
    gc.freeze()
    ForkServer(channel, view).serve()


def _open(view: dict[str, Any]) -> dict[str, Any]:
    """Open the paths of the Landlock rules and find control groups, once for all supervisors."""
    for key in ("entries", "listed"):
        view[key] = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in view[key]]
    view["groups"] = control_group.parents()
    return view
