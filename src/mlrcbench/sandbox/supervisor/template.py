"""The template: a small process that forks supervisors, and cleans up after one that was killed.

The host process may be large and have threads; forking it is slow and unsafe. So it starts
this one once, and every supervisor is a fork of it: two milliseconds, and nearly all of their
memory is shared. It ends when the host process does.

A supervisor that the kernel killed cannot end its command. In a process namespace the command
dies with it; without one its processes become the template's, which ends them.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket

from . import kernel, loop, seccomp, wire
from .process_tree import ProcessTree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Template:
    """Forks a supervisor for each socket that comes in."""

    def __init__(self, channel: socket.socket, view: dict[str, Any]) -> None:
        self._channel = channel
        self._view = view
        self._supervisors: set[int] = set()
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._tree = ProcessTree(namespaced=False, uid=None, proc=proc)
        self._woken, wake = os.pipe()
        for descriptor in (self._woken, wake):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Work until the host process is gone."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            ready = {number for number, _ in poll.poll()}
            if self._woken in ready:
                os.read(self._woken, 1 << 12)
                self._clean()
            if self._channel.fileno() in ready:
                message = wire.receive(self._channel)
                if message is None:
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
        """Reap what ended; end what a supervisor left."""
        self._tree.begin()
        self._tree.reap()
        for pid in list(self._supervisors):
            if self._tree.status(pid) is not None:
                self._supervisors.discard(pid)
        while orphans := [pid for pid in self._tree.children() if self._is_orphan(pid)]:
            for pid in [*orphans, *self._tree.below(orphans)]:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._tree.reap()

    def _is_orphan(self, pid: int) -> bool:
        """Whether a child is neither a supervisor nor the first process of a namespace."""
        if pid in self._supervisors:
            return False
        try:
            status = self._tree.read(f"{pid}/status")
        except OSError:
            return False
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        return "Z" not in fields["State"] and len(fields["NSpid"].split()) == 1


def main(control: int) -> None:
    """Be the template.

    Args:
        control: A connected socket. The first message holds the view, see `setup.prepare`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = socket.socket(fileno=control)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    message = wire.receive(channel)
    if message is None:
        return
    try:
        view = _open(message.fields)
    except OSError as error:
        wire.send(channel, {"error": f"{error}"})
        return
    wire.send(channel, {"ready": True})
    for namespaced in (False, True):  # what nearly all sandboxes need is made once, here
        seccomp.program(network=False, own_network=namespaced, own_processes=namespaced, memfd=False)
    gc.disable()
    gc.freeze()
    Template(channel, view).serve()


def _open(view: dict[str, Any]) -> dict[str, Any]:
    """Open the paths that rules will be made of, once for all supervisors."""
    for key in ("entries", "listed"):
        view[key] = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in view[key]]
    return view
