"""Control groups: the kernel counts the memory of everything that a sandbox does.

That includes what belongs to no process: shared memory that nobody maps, sockets' buffers, page tables.
The fork server looks once for groups in which it may make others; usually only root finds one. A
supervisor makes a group before its first command and enters it, so that all commands begin there:
to move a process takes the kernel about 10 ms, two or three times what a whole command takes.

The group is for counting, and its own limits are far ones. If the kernel ended processes at the exact
limit, it could end the supervisor, where the memory is held by no process.
"""

from __future__ import annotations

import contextlib
import os
import time

_PREFIX = "mlrcbench-"
_SPARE_BYTES = 64 << 20
_SPARE_TASKS = 64
_TIMES = 3  # the private folders in memory may be full, and processes large besides
_RECLAIM_SECONDS = 1.0
# How the two versions name the numbers that the kernel cannot free by itself.
_NEWER = ("anon", "shmem", "sock")
_KERNEL = ("kernel_stack", "pagetables", "percpu", "slab_unreclaimable")
_OLDER = ("rss", "shmem")


class ParentGroup:
    """A group in which others can be made.

    Attributes:
        controllers: What groups in it can count: "memory", "pids" or both.
        folder: An open descriptor of its folder.
    """

    def __init__(self, controllers: set[str], folder: int) -> None:
        self.controllers = controllers
        self.folder = folder


def parents() -> list[ParentGroup]:
    """Groups in which this process may make others, at most one for each controller."""
    usable: list[ParentGroup] = []
    for path in _candidates():
        wanted = {"memory", "pids"}.difference(*(parent.controllers for parent in usable))
        if wanted and (parent := _try(path, wanted)) is not None:
            usable.append(parent)
    for parent in usable:
        _remove_stale(parent)
    return usable


def remove(usable: list[ParentGroup], owner: int, *, seconds: float = 0.0) -> bool:
    """Remove the groups of a fork server's supervisors that have ended; returns whether none is left."""
    deadline = time.monotonic() + seconds
    prefix = f"{_PREFIX}{owner}-"
    while True:
        names = [(parent, name) for parent in usable for name in _names(parent) if name.startswith(prefix)]
        left = [name for parent, name in names if not _remove(parent, name)]
        if not left or time.monotonic() >= deadline:
            return not left
        time.sleep(0.05)


class ControlGroup:
    """The group of one supervisor and its commands.

    Args:
        usable: Where groups can be made.
        name: The end of the group's name; no other supervisor has it.
        count: Whether the group also counts processes.

    Raises:
        OSError: A group for memory is missing, or could not be entered.
    """

    def __init__(self, usable: list[ParentGroup], name: str, *, count: bool) -> None:
        self._folders: dict[str, int] = {}
        self._limits = (0, 0)
        self._reclaimed = 0.0
        for parent in usable:
            needed = parent.controllers if count else parent.controllers & {"memory"}
            if needed:
                os.mkdir(_PREFIX + name, dir_fd=parent.folder)
                folder = os.open(
                    _PREFIX + name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent.folder
                )
                _write(folder, "cgroup.procs", "0")
                self._folders.update(dict.fromkeys(needed, folder))
        if "memory" not in self._folders:
            raise OSError("no control group counts memory")
        self._older = _exists(self._folders["memory"], "memory.limit_in_bytes")

    def limit(self, memory: int, processes: int) -> None:
        """Set the limits far above those of a command, given in bytes and in processes."""
        if self._limits == (memory, processes):
            return
        self._limits = (memory, processes)
        most = _TIMES * memory + _SPARE_BYTES
        _write(self._folders["memory"], "memory.limit_in_bytes" if self._older else "memory.max", str(most))
        if "pids" in self._folders:
            _write(self._folders["pids"], "pids.max", str(2 * processes + _SPARE_TASKS))

    def used(self, limit: int) -> int:
        """Bytes in use that the kernel cannot free by itself, exact where they are above a limit."""
        used = self._used()
        if used > limit and self._older and time.monotonic() > self._reclaimed:
            with contextlib.suppress(OSError):  # a part of the kernel's own may be what it can free
                _write(self._folders["memory"], "memory.force_empty", "0")
            self._reclaimed = time.monotonic() + _RECLAIM_SECONDS
            used = self._used()
        return used

    def _used(self) -> int:
        folder = self._folders["memory"]
        numbers = dict(line.split() for line in _read(folder, "memory.stat").splitlines())
        if self._older:
            kernel = int(_read(folder, "memory.kmem.usage_in_bytes"))
            return kernel + sum(int(numbers[name]) for name in _OLDER)
        used = sum(int(numbers[name]) for name in _NEWER)
        if "kernel" in numbers:
            return used + int(numbers["kernel"]) - int(numbers["slab_reclaimable"])
        return used + sum(int(numbers.get(name, 0)) for name in _KERNEL)


def _candidates() -> list[str]:
    """Folders of this process's groups, and of those above them."""
    paths = []
    with open("/proc/self/cgroup") as own, open("/proc/self/mountinfo") as mounts:
        groups = {line.split(":", 2)[1]: line.rstrip("\n").split(":", 2)[2] for line in own}
        for line in mounts:
            before, _, after = line.partition(" - ")
            kind, _, options = after.split()[:3]
            root, target = before.split()[3:5]
            names = set(options.split(",")) if kind == "cgroup" else {""}
            if kind not in ("cgroup", "cgroup2") or not names & {"", "memory", "pids"}:
                continue
            for controllers, group in groups.items():
                if set(controllers.split(",")) <= names and (group + "/").startswith(root.rstrip("/") + "/"):
                    path = target + group[len(root.rstrip("/")) :].rstrip("/")
                    paths += [path, os.path.dirname(path)] if path != target else [path]
    return paths


def _try(path: str, wanted: set[str]) -> ParentGroup | None:
    """Make and remove a group, and see what it could count."""
    name = f"{_PREFIX}{os.getpid()}-trial"
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.mkdir(name, dir_fd=folder)
            trial = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
            files = set(os.listdir(trial))
            os.close(trial)
            os.rmdir(name, dir_fd=folder)
        except OSError:
            os.close(folder)
            return None
    except OSError:
        return None
    present = {"memory.max", "memory.limit_in_bytes"} & files, {"pids.max"} & files
    controllers = {
        name for name, entries in zip(("memory", "pids"), present, strict=True) if entries
    } & wanted
    if not controllers:
        os.close(folder)
        return None
    return ParentGroup(controllers, folder)


def _remove_stale(parent: ParentGroup) -> None:
    """Remove the groups that a fork server left when it was killed."""
    for name in _names(parent):
        owner = name.split("-")[1]
        if owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            _remove(parent, name)


def _names(parent: ParentGroup) -> list[str]:
    return [name for name in os.listdir(parent.folder) if name.startswith(_PREFIX)]


def _remove(parent: ParentGroup, name: str) -> bool:
    try:
        os.rmdir(name, dir_fd=parent.folder)
    except FileNotFoundError:
        return True
    except OSError:  # it still has processes
        return False
    return True


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder)
    except OSError:
        return False
    return True


def _read(folder: int, name: str) -> str:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.read(descriptor, 1 << 16).decode()
    finally:
        os.close(descriptor)


def _write(folder: int, name: str, text: str) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
