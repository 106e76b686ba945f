"""The processes of a sandbox: list them, measure them, end them all.

The supervisor is process 1 of a namespace, or a subreaper. Either way every orphan becomes its
child, so if it has no child left to wait for, no process is left.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time

from . import kernel


class ProcessTree:
    """All processes below this one.

    Attributes:
        cpu_seconds: User and system time of all processes reaped since `begin`.
        peak_bytes: Largest resident set of one process reaped since `begin`.
        shared: Whether processes of other supervisors have the same user number, so that processes
            must not be ended by user number.
    """

    def __init__(self, *, namespaced: bool, uid: int | None, proc: int) -> None:
        """Begin with nothing reaped.

        Args:
            namespaced: Whether this process is process 1 of its own namespace.
            uid: The user number that only this sandbox uses; None if it has none.
            proc: An open descriptor of a /proc in which this process appears.
        """
        self._namespaced = namespaced
        self._uid = uid
        self._proc = proc
        self._status: dict[int, int] = {}
        self.shared = False
        self.begin()

    def begin(self) -> None:
        """Forget the processes that were reaped."""
        self._status.clear()
        self.cpu_seconds = 0.0
        self.peak_bytes = 0

    def reap(self, options: int = os.WNOHANG) -> bool:
        """Reap the processes that have ended; False if this process has no child at all."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, options)
            except ChildProcessError:
                return False
            if not pid:
                return True
            self._status[pid] = status
            self.cpu_seconds += usage.ru_utime + usage.ru_stime
            self.peak_bytes = max(self.peak_bytes, usage.ru_maxrss << 10)

    def status(self, pid: int) -> int | None:
        """The wait status of a child that was reaped; None if it was not."""
        return self._status.get(pid)

    def pids(self) -> list[int]:
        """All processes below this one that one look finds."""
        if self._namespaced:
            return [int(name) for name in os.listdir(self._proc) if name.isdigit() and name != "1"]
        children = self.children()
        return children + self.below(children)

    def below(self, roots: list[int]) -> list[int]:
        """The descendants of some processes."""
        descendants: list[int] = []
        frontier, seen = roots, set(roots)
        while frontier := [child for pid in frontier for child in self.children(pid) if child not in seen]:
            seen.update(frontier)
            descendants += frontier
        return descendants

    def threads(self, pids: list[int]) -> int:
        """Number of threads of some processes, main threads included."""
        total = 0
        for pid in pids:
            with contextlib.suppress(OSError, ValueError, IndexError):
                total += int(self.read(f"{pid}/stat").rpartition(")")[2].split()[17])
        return total

    def tasks_of(self, uid: int) -> int:
        """Number of threads of a user's processes on the whole machine."""
        names = [name for name in os.listdir(self._proc) if name.isdigit()]
        pids = []
        for name in names:
            with contextlib.suppress(OSError):
                if os.stat(name, dir_fd=self._proc).st_uid == uid:
                    pids.append(int(name))
        return self.threads(pids)

    def tasks(self, pid: int) -> list[str]:
        """The folders below /proc of a process's threads: one that has ended has no memory and no files."""
        try:
            return [f"{pid}/task/{task}" for task in self.list(f"{pid}/task")]
        except OSError:
            return []

    def end(self, seconds: float = math.inf) -> None:
        """Kill and reap all processes below this one; returns when none is left, or the time has passed."""
        deadline = time.monotonic() + seconds
        while self.reap() and time.monotonic() < deadline:
            if self._namespaced:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)
            elif self._uid is not None and not self.shared:
                self._kill_user(self._uid)
            self._kill_walk()
            self._wait_a_moment()

    def _kill_walk(self) -> None:
        """Stop every process that can be seen, until no new one appears, and then kill them all."""
        if self._namespaced:
            return
        stopped: set[int] = set()
        while new := set(self.pids()) - stopped:
            for pid in new:
                self._signal(pid, signal.SIGSTOP)
            stopped |= new
        for pid in stopped:
            self._signal(pid, signal.SIGKILL)

    def _wait_a_moment(self) -> None:
        deadline = time.monotonic() + 0.05
        pause = 0.0002
        while self.reap() and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(pause * 2, 0.01)

    def _kill_user(self, uid: int) -> None:
        """Kill every process of a user at once, from a process of that user."""
        pid = os.fork()
        if pid == 0:
            try:
                kernel.become(uid)
                os.kill(-1, signal.SIGKILL)
            finally:
                os._exit(0)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)

    def _signal(self, pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)

    def children(self, pid: int | None = None) -> list[int]:
        """The children of a process; by default those of this one."""
        children: list[int] = []
        for task in self.tasks(os.getpid() if pid is None else pid):
            with contextlib.suppress(OSError):
                children += map(int, self.read(f"{task}/children").split())
        return children

    def list(self, path: str) -> list[str]:
        """The names in a folder below /proc."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._proc)
        try:
            return os.listdir(descriptor)
        finally:
            os.close(descriptor)

    def read(self, path: str) -> str:
        """The text of a file below /proc."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
        try:
            pieces = []
            while piece := os.read(descriptor, 1 << 16):
                pieces.append(piece)
            return b"".join(pieces).decode(errors="replace")
        finally:
            os.close(descriptor)

    def stat(self, path: str) -> os.stat_result:
        """The state of what an entry of /proc leads to."""
        return os.stat(path, dir_fd=self._proc)
