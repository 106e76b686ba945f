"""Limits that no system call enforces, watched from outside while a command runs.

These are the memory and the CPU time of the whole process tree, the number of processes where the kernel
does not count them per sandbox, and the size of the workspace. A watchdog looks every few hundredths of a
second, so a limit can be passed for that long. It spends a bounded share of the time on looking,
so large trees are looked at less often.

Where a control group can be made (see `control_group`), it says how much memory the command has.
Elsewhere the sizes of processes, of what they share, and of what they make the kernel hold are added
up. When the machine itself runs out of memory, the kernel ends commands first.
"""

from __future__ import annotations

import math
import os
import time

from . import disk
from .control_group import ControlGroup
from .cpu_time import CpuTime
from .holdings import Holdings
from .process_tree import ProcessTree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_PERIOD = 0.05
_SURVEY_PERIOD = 0.25
_SLICE = 0.05  # seconds that a survey may take before others have a turn
_STEPS = 64
SHARE = 20  # whatever is repeated takes at most one part in twenty of the time
_SHARE_NEAR = 2  # looks at memory that is above half of its limit take at most one part in two


class Watchdog:
    """Watches the limits of one command.

    Attributes:
        next_look: When `look` is to be called, on the monotonic clock.
        peak_bytes: Largest sum of resident sets in any look so far.
    """

    def __init__(
        self,
        processes: ProcessTree,
        limits: dict[str, Any],
        *,
        holdings: Holdings,
        folders: list[str],
        memory_folders: list[str],
        count: bool,
        allowed: int,
        group: ControlGroup | None,
    ) -> None:
        """Start watching now.

        Args:
            processes: The command's processes.
            limits: The fields of `Limits`.
            holdings: Measures what these processes hold.
            folders: Folders whose sizes together are the size of the workspace.
            memory_folders: Private file systems in memory.
            count: Whether the watchdog must count processes.
            allowed: Size that the workspace may have even if that is above its limit: one that is
                too large already may shrink, not grow.
            group: The control group that the command runs in, if there is one.
        """
        self._processes = processes
        self._limits = limits
        self._holdings = holdings
        self._folders = folders
        self._memory_folders = memory_folders
        self._count = count
        self._most_disk = max(limits["workspace_bytes"], allowed)
        self._group = group
        self._cpu_time = CpuTime(processes)
        self._held = holdings.nothing()
        self._survey: Iterator[str | None] | None = None
        self._survey_seconds = 0.0
        started = time.monotonic()
        self.next_look = self._next_memory = started + _PERIOD
        self._next_survey = started + _SURVEY_PERIOD
        self.peak_bytes = 0
        self._near = False

    def look(self) -> str | None:
        """Check the limits that are due; returns the name of one that was passed, if any."""
        now = time.monotonic()
        ending = None
        if now >= self._next_memory:
            pids = self._processes.pids()
            ending = self._check_memory(pids) or self._check_processes(pids) or self._check_cpu(pids)
            self._next_memory = later(now, _PERIOD, share=_SHARE_NEAR if self._near else SHARE)
        if ending is None and self._survey is None and now >= self._next_survey:
            self._survey, self._survey_seconds = self._look_around(), 0.0
        if ending is None and self._survey is not None:
            ending = self._go_on(self._survey)
        self.next_look = min(self._next_memory, self._next_survey)
        return ending

    def _go_on(self, survey: Iterator[str | None]) -> str | None:
        """Continue with a survey for a moment: it can be long, and the time limit must hold meanwhile."""
        started = time.monotonic()
        for count, ending in enumerate(survey, 1):
            if ending is not None:
                return ending
            if count % _STEPS == 0 and time.monotonic() > started + _SLICE:
                self._survey_seconds += time.monotonic() - started
                self._next_survey = time.monotonic()
                return None
        seconds = self._survey_seconds + time.monotonic() - started
        self._next_survey = later(time.monotonic() - seconds, _SURVEY_PERIOD)
        self._survey = None
        return None

    def _look_around(self) -> Iterator[str | None]:
        """One survey of everything that processes and folders hold: yields what has been passed, if anything.

        Files that processes hold count with the workspace.
        """
        held = self._holdings.nothing()
        for _ in self._holdings.survey(self._processes.pids(), held):
            yield None
        self._held, used = held, held.unlinked
        for folder in self._folders:
            for size in disk.sizes(folder):
                used += size
                yield "disk" if used > self._most_disk else None
        yield "disk" if used > self._most_disk else None

    def _check_memory(self, pids: list[int]) -> str | None:
        limit = self._limits["memory_bytes"]
        in_files = sum(map(_used, self._memory_folders)) + self._held.shared
        resident = self._holdings.resident(pids)
        self.peak_bytes = max(self.peak_bytes, resident)
        self._near = resident + in_files + self._held.kernel > limit / 2
        if self._group is not None and self._group.used(limit) > limit:
            return "memory"
        if resident + in_files + self._held.kernel <= limit:
            return None
        private, shared = self._holdings.proportional(pids)
        return "memory" if private + max(shared, in_files) + self._held.kernel > limit else None

    def _check_processes(self, pids: list[int]) -> str | None:
        if not self._count:
            return None
        return "processes" if self._processes.threads(pids) > self._limits["processes"] else None

    def _check_cpu(self, pids: list[int]) -> str | None:
        limit = self._limits["cpu_seconds"]
        return "cpu" if limit != math.inf and self._cpu_time.seconds(pids) > limit else None


def later(started: float, period: float, *, share: int = SHARE) -> float:
    """When to repeat what began at `started`: after `period`, or when 1/share of the time has been spent."""
    now = time.monotonic()
    return now + max(period, (now - started) * share)


def _used(folder: str) -> int:
    """Bytes in use on the file system of a folder."""
    state = os.statvfs(folder)
    return (state.f_blocks - state.f_bfree) * state.f_frsize
