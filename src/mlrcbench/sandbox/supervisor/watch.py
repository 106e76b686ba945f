"""Limits that no system call enforces, watched from outside while a command runs.

Memory of the whole tree, processes where the kernel does not count them per sandbox, and the
size of the workspace. A watchdog looks every few hundredths of a second, so a limit can be
passed for that long; and it spends a bounded share of the time, so large trees are looked at
less often.

Control groups are not used, even where they could be: to put a process into one takes the
kernel 7 to 10 ms per controller, twice to three times what a whole command takes, to gain what
limits on each process and a look every 50 ms nearly give. Commands are first in line when the
machine itself runs out of memory.
"""

from __future__ import annotations

import os
import time

from . import files
from .process_tree import ProcessTree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PERIOD = 0.05
_DISK_PERIOD = 0.25
_SHARE = 20  # at most one part in twenty of the time for each look
_SHARE_NEAR = 2  # and one in two while memory is above half of its limit


class Watch:
    """Watches one command.

    Attributes:
        next_look: When `look` wants to be called, on the monotonic clock.
        peak_bytes: Largest sum of resident sets that was seen.
    """

    def __init__(
        self,
        tree: ProcessTree,
        limits: dict[str, Any],
        *,
        folders: list[str],
        memory_folders: list[str],
        count: bool,
        allowed: int,
    ) -> None:
        """Start watching now.

        Args:
            tree: The processes.
            limits: The fields of `Limits`.
            folders: Their sizes together are the workspace's.
            memory_folders: Private file systems in memory.
            count: Whether processes must be counted here.
            allowed: The workspace's size if it is too large already: it may shrink, not grow.
        """
        self._tree = tree
        self._limits = limits
        self._folders = folders
        self._memory_folders = memory_folders
        self._count = count
        self._allowed = allowed
        started = time.monotonic()
        self.next_look = started + _PERIOD
        self._next_disk = started + _DISK_PERIOD
        self.peak_bytes = 0
        self._near = False

    def look(self) -> str | None:
        """Check what is due; the limit that was passed, if any."""
        now = time.monotonic()
        pids = self._tree.pids()
        ending = self._memory(pids) or self._processes(pids)
        self.next_look = _later(now, _PERIOD, share=_SHARE_NEAR if self._near else _SHARE)
        if ending is None and now >= self._next_disk:
            started = time.monotonic()
            ending = self.disk(pids)
            self._next_disk = _later(started, _DISK_PERIOD, share=_SHARE)
        return ending

    def disk(self, pids: list[int]) -> str | None:
        """Check the workspace's size, files without a name included."""
        used = sum(files.usage(folder) for folder in self._folders) + self._tree.unlinked(pids)
        return "disk" if used > max(self._limits["workspace_bytes"], self._allowed) else None

    def _memory(self, pids: list[int]) -> str | None:
        limit = self._limits["memory_bytes"]
        in_files = sum(map(_used, self._memory_folders))
        resident = self._tree.resident(pids)
        self.peak_bytes = max(self.peak_bytes, resident)
        self._near = resident + in_files > limit / 2
        if resident + in_files <= limit:
            return None
        private, shared = self._tree.proportional(pids)
        return "memory" if private + max(shared, in_files) > limit else None

    def _processes(self, pids: list[int]) -> str | None:
        if not self._count:
            return None
        return "processes" if self._tree.threads(pids) > self._limits["processes"] else None


def _later(started: float, period: float, *, share: int) -> float:
    now = time.monotonic()
    return now + max(period, (now - started) * share)


def _used(folder: str) -> int:
    state = os.statvfs(folder)
    return (state.f_blocks - state.f_bfree) * state.f_frsize
