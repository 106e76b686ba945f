"""CPU time of a command's whole process tree while it runs.

The time of a process that has ended is counted by the process that waited for it: by its parent, whose own
numbers then contain it, or by the supervisor. So the time of a tree is that of all processes which the
supervisor has reaped, and for each process alive its own and that of the children it waited for.
"""

from __future__ import annotations

import contextlib
import os

from .process_tree import ProcessTree

_TICKS = os.sysconf("SC_CLK_TCK")
_FIRST, _LAST = 11, 15  # utime, stime, cutime, cstime, counted behind the name
_LOOKS = 3


class CpuTime:
    """The time that a command's processes have used.

    A parent that ignores its children's ends makes the kernel drop their time. That shows as a sum that
    becomes smaller, and what it lost is added again. A single smaller sum means nothing, since a process
    may end between two readings; `_LOOKS` in a row do.
    """

    def __init__(self, processes: ProcessTree) -> None:
        self._processes = processes
        self._most = 0.0
        self._dropped = 0.0
        self._deficits: list[float] = []

    def seconds(self, pids: list[int]) -> float:
        """User and system time so far; parents come before their children in `pids`.

        A child that ends after its parent was read is missing for once, which never makes the time larger.
        """
        total = self._dropped + self._processes.cpu_seconds + sum(map(self._of, pids))
        self._deficits = [*self._deficits, self._most - total][-_LOOKS:]
        if len(self._deficits) == _LOOKS and (dropped := min(self._deficits)) > 0:
            self._dropped += dropped
            total += dropped
            self._deficits = []
        self._most = max(self._most, total)
        return self._most

    def _of(self, pid: int) -> float:
        """Time of one process, and of the children for which it waited; 0 if it has ended."""
        with contextlib.suppress(OSError, ValueError):
            fields = self._processes.read(f"{pid}/stat").rpartition(")")[2].split()
            return sum(map(int, fields[_FIRST:_LAST])) / _TICKS
        return 0.0
