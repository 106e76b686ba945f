"""A sandbox that is set up: what is done before and after each of its commands."""

from __future__ import annotations

import contextlib
import math
import os
import stat
import time

from . import files, kernel
from .child import Confinement
from .process_tree import ProcessTree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SHARED_MEMORY = "/dev/shm"
_SPARE_TASKS = 1024
_MOST_COMMANDS = 5  # that can run in one sandbox at once; the watchdog counts those of each
_COUNT_SECONDS = 30.0
_CLEAN_SECONDS = 10.0
_WALK_SHARE = 20


class Place:
    """A sandbox that is set up.

    Attributes:
        tree: Its processes.
        confinement: What each child does to itself.
        workspace: The folder commands run in.
        home: A private folder that is emptied after each command.
        uid: The user that commands run as, if it is not the supervisor's.
        memory_folders: Private file systems in memory, emptied after each command.
        watched: Folders that count as workspace.
        counted_by_kernel: Whether RLIMIT_NPROC counts this sandbox's processes alone.
        own_home: Whether `home` was made by this process, which then removes it.
        used: Bytes of the watched folders when they were last measured.
        shared: Whether other supervisors run commands of the same sandbox, which may be counted
            together with these, and use the same shared memory.
        guest: Whether the user number is that of another supervisor, which cleans up after it.
    """

    def __init__(self, tree: ProcessTree, confinement: Confinement, workspace: str, home: str) -> None:
        self.tree = tree
        self.confinement = confinement
        self.workspace = workspace
        self.home = home
        self.uid = confinement.uid
        self.memory_folders: list[str] = []
        self.watched = [workspace]
        self.counted_by_kernel = False
        self.own_home = False
        self._size = 0
        self._counted = 0
        self._counted_until = 0.0
        self.used = 0
        self.shared = False
        self.guest = False
        self._unmeasured = 0.0
        self._walk_seconds = 0.0

    def make_ready(self, limits: dict[str, Any]) -> None:
        """Before a command: the workspace belongs to it, and memory folders have its size."""
        if self.uid is not None:
            files.give(self.workspace, self.uid)
        state = os.stat(self.workspace)
        if state.st_mode & 0o700 != 0o700:  # a command took away its own permission
            os.chmod(self.workspace, stat.S_IMODE(state.st_mode) | 0o700)
        if self.memory_folders and limits["memory_bytes"] != self._size:
            self._size = limits["memory_bytes"]
            flags = kernel.MS_REMOUNT | kernel.MS_NOSUID | kernel.MS_NODEV
            for folder in self.memory_folders:
                kernel.mount("tmpfs", folder, None, flags, f"mode=1777,size={self._size}")

    def rlimits(self, limits: dict[str, Any]) -> dict[str, int]:
        """Limits that each process of a command carries.

        In a workspace over its size no file can grow any more, but files can be removed.
        """
        room = limits["workspace_bytes"] if self.used <= limits["workspace_bytes"] else 0
        chosen = {
            "RLIMIT_CORE": 0,
            "RLIMIT_FSIZE": min(limits["file_bytes"], room),
            "RLIMIT_DATA": limits["memory_bytes"],
            "RLIMIT_NOFILE": 4096,
            "RLIMIT_MEMLOCK": 8 << 20,
        }
        if self.counted_by_kernel:
            tasks = limits["processes"] * (_MOST_COMMANDS if self.shared else 1)
            chosen["RLIMIT_NPROC"] = tasks + (self.uid is None)  # the supervisor counts as well
        elif self.confinement.enabled and os.geteuid():
            chosen["RLIMIT_NPROC"] = self._all_tasks() + limits["processes"] + _SPARE_TASKS
        return chosen

    def measure(self, seconds: float, limits: dict[str, Any]) -> None:
        """After a command that took so long: see how large the workspace is.

        Many short commands must not add up unseen, and a large tree must not be walked after
        each: it is walked again when commands have taken twenty times as long as the walk, and
        always when it is too large.
        """
        self._unmeasured += seconds
        if self.used > limits["workspace_bytes"] or self._unmeasured >= self._walk_seconds * _WALK_SHARE:
            started = time.monotonic()
            self.used = sum(files.usage(folder) for folder in self.watched)
            self._walk_seconds = time.monotonic() - started
            self._unmeasured = 0.0

    def _all_tasks(self) -> int:
        """How many tasks this user has: where others count too, a limit can only be a coarse one."""
        if time.monotonic() > self._counted_until:
            self._counted = self.tree.tasks_of(os.geteuid())
            self._counted_until = time.monotonic() + _COUNT_SECONDS
        return self._counted

    def clean(self) -> None:
        """After a command: empty what is private, and mend its permissions.

        Raises:
            OSError: A command left more than can be removed in a while.
        """
        for folder in self.memory_folders or [self.home]:
            os.chmod(folder, 0o1777 if self.memory_folders else 0o700)
            files.empty(folder, seconds=_CLEAN_SECONDS)
        if self.uid is not None and not self.memory_folders and not self.shared:
            self._clean_shared_memory(self.uid)

    def _clean_shared_memory(self, uid: int) -> None:
        """Remove what this sandbox's own user left where all users may write."""
        with contextlib.suppress(FileNotFoundError), os.scandir(SHARED_MEMORY) as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_uid != uid:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    files.empty(entry.path, seconds=_CLEAN_SECONDS)
                    os.rmdir(entry.path)
                else:
                    os.unlink(entry.path)

    def remove(self) -> None:
        """At the end: leave nothing."""
        if self.uid is not None and not self.memory_folders and not self.guest:
            with contextlib.suppress(OSError):
                self._clean_shared_memory(self.uid)
        if self.own_home:
            files.empty(self.home, seconds=math.inf)
            os.rmdir(self.home)
