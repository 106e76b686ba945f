"""The caretaker: starts a program, and ends everything that the program has left when it is over.

The kernel makes every orphan below this process its child, wherever it has hidden, so nothing that the
program or its descendants have started is lost from sight when one of them is killed. The program is over
when it ends, when the process that asked for it is gone, or when that one closes the standard input, which
the program shares; the program itself ends with this process. Then what is left gets some seconds to clean
up, and is killed.

Out of reach are processes of other users, and those that another service starts when it is asked to.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import time

from . import bound_program, kernel
from .process_tree import ProcessTree

_LOOK_SECONDS = 1.0
_CLEANING_SECONDS = 5.0  # for supervisors, which notice by themselves that they are not needed any more
_KILLING_SECONDS = 5.0
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Caretaker:
    """Takes care of one program.

    Args:
        parent: Number of the process that asked for it.
        command: The program and its arguments.
    """

    def __init__(self, parent: int, command: list[str]) -> None:
        self._parent = parent
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._processes = ProcessTree(namespaced=False, uid=None, proc=proc)
        self._woken, wake = os.pipe()
        for descriptor in (self._woken, wake):
            os.set_blocking(descriptor, False)
        for number in (signal.SIGCHLD, *_ENDING_SIGNALS):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        caretaker = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            bound_program.start(caretaker, command)

    def run(self) -> int:
        """Wait until the program is over, and end what it has left; returns its wait status."""
        self._wait()
        self._kill()
        deadline = time.monotonic() + _CLEANING_SECONDS
        while self._processes.reap() and time.monotonic() < deadline:
            self._pause(deadline - time.monotonic())
        self._processes.end(_KILLING_SECONDS)
        status = self._processes.status(self._pid)
        return signal.SIGKILL if status is None else status

    def _wait(self) -> None:
        """Wait until the program has ended, or nobody waits for it any more."""
        poll = select.poll()
        poll.register(0, 0)  # only that its other end is closed
        poll.register(self._woken, select.POLLIN)
        while self._processes.reap() and self._processes.status(self._pid) is None:
            ready = {number for number, _ in poll.poll(_LOOK_SECONDS * 1000)}
            asked_to_end = self._woken in ready and self._signals() & {int(one) for one in _ENDING_SIGNALS}
            if asked_to_end or 0 in ready or os.getppid() != self._parent:
                return

    def _kill(self) -> None:
        """End the program, if it has not ended."""
        if self._processes.status(self._pid) is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._pid, signal.SIGKILL)

    def _pause(self, seconds: float) -> None:
        """Wait until a child ends."""
        select.select([self._woken], [], [], max(0.0, seconds))
        self._signals()

    def _signals(self) -> set[int]:
        """The signals that have come."""
        try:
            return set(os.read(self._woken, 1 << 12))
        except BlockingIOError:
            return set()


def main(parent: str, *command: str) -> None:
    """Run as the caretaker of a program, and end as the program does; see `Caretaker`."""
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    status = Caretaker(int(parent), list(command)).run()
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
