"""What the processes of a sandbox hold: memory, files that have no name any more, and sockets.

Much of it does not show in a process's size. A process whose main thread has ended shows none, but
its other threads have all of it. Shared memory belongs to no page table once it was unmapped from
it, or when the process that wrote it has ended. A file without a name takes room as long as it is
open or mapped anywhere. And the kernel's own tables and buffers belong to no process.

What only travels between processes, in a message that nobody has received, cannot be seen here.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from .process_tree import ProcessTree

_PAGE = os.sysconf("SC_PAGE_SIZE")
_SHARED_ANONYMOUS = "/dev/zero (deleted)"
_DELETED = " (deleted)"
_SHARED_MEMORY = "/dev/shm"
_PIPE_BYTES = 2 * _PAGE  # what a pipe may hold when the user has many
_DEFAULT_BUFFER = 212_992


class Held:
    """What was counted so far.

    Args:
        measured: Devices of file systems in memory that are measured as a whole, and not here.
        socket_bytes: What a socket may hold.

    Attributes:
        sockets: Number of sockets, if that is known from elsewhere.
    """

    def __init__(self, measured: frozenset[int], socket_bytes: int) -> None:
        self._measured = measured
        self._socket_bytes = socket_bytes
        self._files: dict[tuple[int, int], int] = {}
        self._objects: dict[tuple[int, int], int] = {}
        self._sockets: set[int] = set()
        self._pipes: set[int] = set()
        self._tables = 0
        self.sockets = 0

    @property
    def unlinked(self) -> int:
        """Bytes of files without a name."""
        return sum(self._files.values())

    @property
    def shared(self) -> int:
        """Bytes of shared memory without a name, whether a page table has it or not."""
        return sum(self._objects.values())

    @property
    def kernel(self) -> int:
        """Bytes that the kernel needs at most for page tables, sockets and pipes."""
        sockets = max(len(self._sockets), self.sockets)
        return self._tables + sockets * self._socket_bytes + len(self._pipes) * _PIPE_BYTES

    def add_descriptor(self, state: os.stat_result) -> None:
        """Count what an open descriptor leads to."""
        if stat.S_ISSOCK(state.st_mode):
            self._sockets.add(state.st_ino)
        elif stat.S_ISFIFO(state.st_mode):
            self._pipes.add(state.st_ino)
        elif not state.st_nlink:
            self.add_file((state.st_dev, state.st_ino), state.st_blocks * 512)

    def add_file(self, key: tuple[int, int], size: int, *, anonymous: bool = False) -> None:
        """Count a file without a name, given its device and number, and the bytes that it has at least."""
        if key[0] in self._measured:
            return
        sizes = self._objects if anonymous or key[0] == _device(_SHARED_MEMORY) else self._files
        sizes[key] = max(sizes.get(key, 0), size)

    def add_tables(self, size: int) -> None:
        """Count page tables."""
        self._tables += size


class Holdings:
    """Measures what the processes of one sandbox hold.

    Args:
        processes: The processes of the sandbox.
        folders: Private file systems in memory, which are measured as a whole.
        own_network: Whether all sockets of the network namespace are the sandbox's.
    """

    def __init__(self, processes: ProcessTree, folders: list[str], *, own_network: bool) -> None:
        self._processes = processes
        self._measured = frozenset(map(_device, folders))
        self._own_network = own_network
        self._socket_bytes = sum(map(_buffer, ("wmem_default", "rmem_default")))

    def resident(self, pids: list[int]) -> int:
        """Sum of the resident sets: quick to read, and too high where processes share memory."""
        return sum(self._resident(f"{pid}") or self._of_threads(pid) for pid in pids)

    def proportional(self, pids: list[int]) -> tuple[int, int]:
        """Private and shared memory, with shared pages counted once: exact, and slow to read.

        Pages of files, which the kernel can drop, do not count.
        """
        private = shared = 0
        for pid in pids:
            try:
                rollup = self._processes.read(f"{self._with_memory(pid)}/smaps_rollup")
                sizes = dict(line.split(None, 1) for line in rollup.splitlines()[1:])
                private += int(sizes["Pss_Anon:"].split()[0]) << 10
                shared += int(sizes["Pss_Shmem:"].split()[0]) << 10
            except (OSError, KeyError, ValueError):
                private += self.resident([pid])
        return private, shared

    def nothing(self) -> Held:
        """A count to begin with."""
        return Held(self._measured, self._socket_bytes)

    def survey(self, pids: list[int], held: Held) -> Iterator[None]:
        """Count everything that is not in a resident set; yields often, so that others can have a turn."""
        if self._own_network:
            with contextlib.suppress(OSError, ValueError, IndexError):
                held.sockets = int(self._processes.read("net/sockstat").split()[2])
        for pid in pids:
            for task in self._processes.tasks(pid):
                yield from self._descriptors(task, held)
            yield from self._mappings(self._with_memory(pid), held)

    def _descriptors(self, task: str, held: Held) -> Iterator[None]:
        """Count the open files of one thread, which may have a table of its own."""
        try:
            numbers = self._processes.list(f"{task}/fd")
        except OSError:
            return
        for number in numbers:
            with contextlib.suppress(OSError):
                held.add_descriptor(self._processes.stat(f"{task}/fd/{number}"))
            yield

    def _mappings(self, place: str, held: Held) -> Iterator[None]:
        """Count page tables, and mapped files that have no name."""
        try:
            status = self._processes.read(f"{place}/status")
            maps = self._processes.read(f"{place}/maps")
        except OSError:
            return
        held.add_tables(int(status.partition("VmPTE:")[2].split()[0]) << 10 if "VmPTE:" in status else 0)
        for line in maps.splitlines():
            if line.endswith(_DELETED):
                fields = line.split(None, 5)
                anonymous = fields[5] == _SHARED_ANONYMOUS
                held.add_file(*self._mapped(place, fields), anonymous=anonymous)
                yield

    def _mapped(self, place: str, fields: list[str]) -> tuple[tuple[int, int], int]:
        """The file of a mapping, and how much of it is in use; only root can see more than what is mapped."""
        try:
            state = self._processes.stat(f"{place.rpartition('/')[2]}/map_files/{fields[0]}")
            return (state.st_dev, state.st_ino), state.st_blocks * 512
        except OSError:
            start, _, end = fields[0].partition("-")
            major, _, minor = fields[3].partition(":")
            key = os.makedev(int(major, 16), int(minor, 16)), int(fields[4])
            return key, int(fields[2], 16) + int(end, 16) - int(start, 16)

    def _resident(self, place: str) -> int:
        try:
            return int(self._processes.read(f"{place}/statm").split()[1]) * _PAGE
        except (OSError, ValueError, IndexError):
            return 0

    def _of_threads(self, pid: int) -> int:
        """Resident set of a process whose main thread has ended."""
        return max(map(self._resident, self._processes.tasks(pid)), default=0)

    def _with_memory(self, pid: int) -> str:
        """The folder below /proc of a process, or of a thread if its main thread has ended."""
        if self._resident(f"{pid}"):
            return f"{pid}"
        return next(filter(self._resident, self._processes.tasks(pid)), f"{pid}")


def _device(folder: str) -> int:
    try:
        return os.stat(folder).st_dev
    except OSError:
        return -1


def _buffer(name: str) -> int:
    try:
        with open(f"/proc/sys/net/core/{name}") as setting:
            return int(setting.read())
    except (OSError, ValueError):
        return _DEFAULT_BUFFER
