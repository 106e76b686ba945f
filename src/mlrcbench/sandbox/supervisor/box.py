"""A sandbox that is set up, and what is done before and after each of its commands."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import stat
import time
from collections.abc import Iterator

from . import disk, kernel
from .control_group import ControlGroup, ParentGroup
from .launcher import Confinement
from .process_tree import ProcessTree
from .watchdog import SHARE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SHARED_MEMORY = "/dev/shm"
_SPARE_TASKS = 1024
_MOST_COMMANDS = 5  # commands that can run in one sandbox at once; each watchdog counts its own
_COUNT_SECONDS = 30.0
_CLEAN_SECONDS = 10.0
_FEWEST_FILES = 4096  # in each private folder in memory
# The kernel counts these for each user, so a command gets less than the host process has.
_OPEN_FILES = 1024
_PENDING_SIGNALS = 256


class Box:
    """A sandbox that is set up.

    Attributes:
        processes: The processes of the sandbox.
        confinement: How each launcher confines itself.
        workspace: The folder that commands run in.
        home: A private folder that is emptied after each command.
        uid: The user that commands run as; None if it is the supervisor's.
        memory_folders: Private file systems in memory, emptied after each command.
        watched: Folders whose sizes count as the workspace's.
        counted_by_kernel: Whether RLIMIT_NPROC counts only this sandbox's processes.
        own_network: Whether all sockets of the network namespace are the sandbox's.
        groups: Where control groups can be made.
        group_name: A name for one.
        own_home: Whether this process made `home`, and so removes it.
        group: The control group that commands run in; None without one.
        used: Bytes of the watched folders when they were last measured.
        shared: Whether other supervisors run commands of the same sandbox, which may be counted
            together with these, and use the same shared memory.
        guest: Whether the user number belongs to another supervisor, which cleans up after that user.
    """

    def __init__(self, processes: ProcessTree, confinement: Confinement, workspace: str, home: str) -> None:
        self.processes = processes
        self.confinement = confinement
        self.workspace = workspace
        self.home = home
        self.uid = confinement.uid
        self.memory_folders: list[str] = []
        self.watched = [workspace]
        self.counted_by_kernel = False
        self.own_network = False
        self.groups: list[ParentGroup] = []
        self.group_name = ""
        self.group: ControlGroup | None = None
        self._tried_group = False
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
        """Before a command, give it the workspace, and the memory folders the size of its limit."""
        self._enter_group(limits)
        if self.uid is not None:
            disk.give(self.workspace, self.uid)
        state = os.stat(self.workspace)
        if state.st_mode & 0o700 != 0o700:  # a command took away its own permission
            os.chmod(self.workspace, stat.S_IMODE(state.st_mode) | 0o700)
        if self.memory_folders and limits["memory_bytes"] != self._size:
            self._size = limits["memory_bytes"]
            flags = kernel.MS_REMOUNT | kernel.MS_NOSUID | kernel.MS_NODEV
            for folder in self.memory_folders:
                options = f"mode=1777,size={self._size},nr_inodes={max(self._size >> 15, _FEWEST_FILES)}"
                kernel.mount("tmpfs", folder, None, flags, options)

    def _enter_group(self, limits: dict[str, Any]) -> None:
        """Before the first command, enter a control group if one can be made."""
        if not self._tried_group and self.groups:
            self._tried_group = True
            with contextlib.suppress(OSError):
                self.group = ControlGroup(self.groups, self.group_name, count=not self.counted_by_kernel)
        if self.group is not None:
            self.group.limit(limits["memory_bytes"], limits["processes"])

    def rlimits(self, limits: dict[str, Any]) -> dict[str, int]:
        """Resource limits of each process of a command.

        In a workspace that is over its size no file can grow any more, but files can be removed.
        """
        room = limits["workspace_bytes"] if self.used <= limits["workspace_bytes"] else 0
        values = {
            "RLIMIT_CORE": 0,
            "RLIMIT_FSIZE": min(limits["file_bytes"], room),
            "RLIMIT_DATA": limits["memory_bytes"],
            "RLIMIT_NOFILE": _open_files(),
            "RLIMIT_MEMLOCK": 8 << 20,
            "RLIMIT_SIGPENDING": _PENDING_SIGNALS,
            "RLIMIT_MSGQUEUE": 0,
            "RLIMIT_NICE": 0,
            "RLIMIT_RTPRIO": 0,
        }
        if self.counted_by_kernel:
            tasks = limits["processes"] * (_MOST_COMMANDS if self.shared else 1)
            values["RLIMIT_NPROC"] = tasks + (self.uid is None)  # the supervisor counts as well
        elif self.confinement.enabled and os.geteuid():
            values["RLIMIT_NPROC"] = self._all_tasks() + limits["processes"] + _SPARE_TASKS
        return values

    def measure(self, seconds: float, limits: dict[str, Any]) -> None:
        """After a command that took some seconds, measure the workspace if that is due.

        Many short commands must not add up unseen, and a large workspace must not be walked after
        each: it is walked again when commands have taken twenty times as long as the last walk,
        and always when it is too large.
        """
        self._unmeasured += seconds
        if self.used > limits["workspace_bytes"] or self._unmeasured >= self._walk_seconds * SHARE:
            started = time.monotonic()
            self.used = sum(disk.usage(folder) for folder in self.watched)
            self._walk_seconds = time.monotonic() - started
            self._unmeasured = 0.0

    def _all_tasks(self) -> int:
        """Number of this user's tasks: as all of them count, the limit for a command is a coarse one."""
        if time.monotonic() > self._counted_until:
            self._counted = self.processes.tasks_of(os.geteuid())
            self._counted_until = time.monotonic() + _COUNT_SECONDS
        return self._counted

    def clean(self) -> None:
        """After a command, empty the private folders and fix their permissions.

        Raises:
            OSError: The command left more than can be removed within some seconds.
        """
        for folder in self.memory_folders or [self.home]:
            os.chmod(folder, 0o1777 if self.memory_folders else 0o700)
            disk.empty(folder, seconds=_CLEAN_SECONDS)
        if self.uid is not None and not self.memory_folders and not self.shared:
            self._clean_shared_memory(self.uid)

    def _clean_shared_memory(self, uid: int) -> None:
        """Remove the files that this sandbox's own user left in the machine's shared memory.

        Raises:
            OSError: Some could not be removed within some seconds.
        """
        deadline = time.monotonic() + _CLEAN_SECONDS
        while paths := list(_files_of(uid)):
            for path in paths:
                with contextlib.suppress(FileNotFoundError):  # something else has removed it
                    _remove(path)
            if time.monotonic() > deadline:
                raise TimeoutError("the files in shared memory could not be removed in time")

    def remove(self) -> None:
        """Remove everything that the sandbox would leave behind."""
        if self.uid is not None and not self.memory_folders and not self.guest:
            with contextlib.suppress(OSError):
                self._clean_shared_memory(self.uid)
        if self.own_home:
            disk.empty(self.home, seconds=math.inf)
            os.rmdir(self.home)


def _files_of(uid: int) -> Iterator[str]:
    """What a user has in the machine's shared memory."""
    with contextlib.suppress(FileNotFoundError), os.scandir(SHARED_MEMORY) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_uid == uid:
                    yield entry.path


def _remove(path: str) -> None:
    if stat.S_ISDIR(os.lstat(path).st_mode):
        disk.empty(path, seconds=_CLEAN_SECONDS)
        os.rmdir(path)
    else:
        os.unlink(path)


def _open_files() -> int:
    """How many files a command may open: fewer than the host process may have in messages on their way."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _OPEN_FILES if most == resource.RLIM_INFINITY else min(_OPEN_FILES, most // 2)
