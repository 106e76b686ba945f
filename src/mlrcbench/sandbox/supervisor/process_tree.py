"""The processes of a sandbox: list them, weigh them, end them all.

The supervisor is process 1 of a namespace, or a subreaper; either way every orphan becomes
its child, so "no child left to wait for" proves that nothing is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from . import kernel

_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessTree:
    """Everything that was started below this process.

    Attributes:
        cpu_seconds: User and system time of all that was reaped since `begin`.
        peak_bytes: Largest resident set of one process that was reaped since `begin`.
        shared: Whether other supervisors' processes have the same user number, so that it must
            not be used to end these.
    """

    def __init__(self, *, namespaced: bool, uid: int | None, proc: int) -> None:
        """Set up.

        Args:
            namespaced: This process is process 1 of a namespace of its own.
            uid: The user number that belongs to this sandbox alone, if there is one.
            proc: An open folder: /proc as this process sees itself in it.
        """
        self._namespaced = namespaced
        self._uid = uid
        self._proc = proc
        self._status: dict[int, int] = {}
        self.shared = False
        self.begin()

    def begin(self) -> None:
        """Forget what was reaped."""
        self._status.clear()
        self.cpu_seconds = 0.0
        self.peak_bytes = 0

    def reap(self, options: int = os.WNOHANG) -> bool:
        """Reap what has ended; False when there is no child at all."""
        while True:
            try:
                pid, status, used = os.wait4(-1, options)
            except ChildProcessError:
                return False
            if not pid:
                return True
            self._status[pid] = status
            self.cpu_seconds += used.ru_utime + used.ru_stime
            self.peak_bytes = max(self.peak_bytes, used.ru_maxrss << 10)

    def status(self, pid: int) -> int | None:
        """The wait status of a child that was reaped."""
        return self._status.get(pid)

    def pids(self) -> list[int]:
        """All processes below this one, as far as they can be seen at once."""
        if self._namespaced:
            return [int(name) for name in os.listdir(self._proc) if name.isdigit() and name != "1"]
        children = self.children()
        return children + self.below(children)

    def below(self, roots: list[int]) -> list[int]:
        """The descendants of some processes."""
        found: list[int] = []
        frontier, seen = roots, set(roots)
        while frontier := [child for pid in frontier for child in self.children(pid) if child not in seen]:
            seen.update(frontier)
            found += frontier
        return found

    def resident(self, pids: list[int]) -> int:
        """Sum of resident sets: cheap, and too high where processes share memory."""
        total = 0
        for pid in pids:
            with contextlib.suppress(OSError, ValueError, IndexError):
                total += int(self.read(f"{pid}/statm").split()[1])
        return total * _PAGE

    def proportional(self, pids: list[int]) -> tuple[int, int]:
        """Private and shared memory with shared pages counted once; dear, but fair.

        File pages, which the kernel can drop, do not count.
        """
        private = shared = 0
        for pid in pids:
            try:
                rollup = self.read(f"{pid}/smaps_rollup")
                sizes = dict(line.split(None, 1) for line in rollup.splitlines()[1:])
                private += int(sizes["Pss_Anon:"].split()[0]) << 10
                shared += int(sizes["Pss_Shmem:"].split()[0]) << 10
            except (OSError, KeyError, ValueError):
                private += self.resident([pid])
        return private, shared

    def threads(self, pids: list[int]) -> int:
        """Processes and their threads."""
        total = 0
        for pid in pids:
            with contextlib.suppress(OSError, ValueError, IndexError):
                total += int(self.read(f"{pid}/stat").rpartition(")")[2].split()[17])
        return total

    def tasks_of(self, uid: int) -> int:
        """Processes and threads of a user on the whole machine."""
        names = [name for name in os.listdir(self._proc) if name.isdigit()]
        mine = []
        for name in names:
            with contextlib.suppress(OSError):
                if os.stat(name, dir_fd=self._proc).st_uid == uid:
                    mine.append(int(name))
        return self.threads(mine)

    def unlinked(self, pids: list[int]) -> int:
        """Bytes of files that are open but have no name any more."""
        seen: dict[tuple[int, int], int] = {}
        for pid in pids:
            with contextlib.suppress(OSError):
                for number in self._list(f"{pid}/fd"):
                    with contextlib.suppress(OSError):
                        state = os.stat(f"{pid}/fd/{number}", dir_fd=self._proc)
                        if not state.st_nlink:
                            seen[state.st_dev, state.st_ino] = state.st_blocks * 512
        return sum(seen.values())

    def end(self) -> None:
        """Kill everything below this process and reap it; returns when there is nothing left."""
        while self.reap():
            if self._namespaced:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)
            elif self._uid is not None and not self.shared:
                self._kill_user(self._uid)
            self._kill_walk()
            self._wait_a_moment()

    def _kill_walk(self) -> None:
        """Stop and kill what can be seen: until nothing new turns up, it cannot run away."""
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
        """Signal every process of a user from a process of that user: one atomic sweep."""
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
        """The children of a process, of this one by default."""
        children: list[int] = []
        pid = os.getpid() if pid is None else pid
        try:
            tasks = self._list(f"{pid}/task")
        except OSError:
            return children
        for task in tasks:
            with contextlib.suppress(OSError):
                children += map(int, self.read(f"{pid}/task/{task}/children").split())
        return children

    def _list(self, path: str) -> list[str]:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._proc)
        try:
            return os.listdir(descriptor)
        finally:
            os.close(descriptor)

    def read(self, path: str) -> str:
        """A short file below /proc."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
        try:
            return os.read(descriptor, 1 << 16).decode(errors="replace")
        finally:
            os.close(descriptor)
