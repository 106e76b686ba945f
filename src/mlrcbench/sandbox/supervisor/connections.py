"""Connections of commands that have no private file tree: the supervisor makes them.

A user's sockets with a path (of a terminal multiplexer, an agent for keys, a container engine) run
commands for every program that connects, and Landlock has no rule for them. So the filter hands each call of
`connect` to the supervisor. It copies the address, opens what lies at that path, and connects only
to a socket in the sandbox's own folders. The command's descriptor is then replaced by the socket
that the supervisor has connected, so that nothing depends on memory or paths that the command may
have changed meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator

# ioctl requests of a seccomp listener, and the structures that they take
_RECEIVE, _ANSWER, _VALID, _REPLACE = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103
_CALL = struct.Struct("=QIIiIQ6Q")  # id, process, flags, call, machine, instruction, arguments
_REPLY = struct.Struct("=QqiI")  # id, value, error, flags
_DESCRIPTOR = struct.Struct("=QIIII")  # id, flags, ours, theirs, flags of theirs
_AT_NUMBER = 1
_MAX_ADDRESS = 110


class Connections:
    """Answers the calls of `connect` of one sandbox.

    Args:
        proc: An open descriptor of a /proc in which the commands appear.
        uid: The user that commands run as; None if it is the supervisor's.
        folders: The sandbox's own folders.
    """

    def __init__(self, proc: int, uid: int | None, folders: tuple[str, ...]) -> None:
        self._proc = proc
        self._uid = uid
        self._folders = tuple(f"{os.path.realpath(folder)}/" for folder in folders)

    def answer(self, listener: int) -> None:
        """Answer one call."""
        call = bytearray(_CALL.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, call)
        except OSError:  # the caller has ended
            return
        number, task, _, _, _, _, descriptor, address, length, *_ = _CALL.unpack(call)
        error = 0
        try:
            self._connect(listener, number, task, descriptor & 0xFFFFFFFF, (address, length & 0xFFFFFFFF))
        except OSError as problem:
            error = problem.errno or errno.EPERM
        with contextlib.suppress(OSError):
            fcntl.ioctl(listener, _ANSWER, _REPLY.pack(number, 0, -error, 0))

    def _connect(
        self, listener: int, number: int, task: int, descriptor: int, where: tuple[int, int]
    ) -> None:
        """Connect a task's socket to the address at a place in its memory.

        Raises:
            OSError: It is not connected; the error is the caller's.
        """
        with self._as_owner():
            handle, flags = self._open(task, descriptor, self._read(task, *where))
        try:
            fcntl.ioctl(listener, _VALID, struct.pack("=Q", number))  # it was this task's memory
            if not self._is_own_socket(handle):
                raise PermissionError(errno.EPERM, "only sockets of this sandbox can be connected to")
            with socket.socket(socket.AF_UNIX) as ours:
                ours.setblocking(False)
                ours.connect(f"/proc/self/fd/{handle}")
                ours.setblocking(not flags & os.O_NONBLOCK)
                inherited = flags & os.O_CLOEXEC
                replacement = _DESCRIPTOR.pack(number, _AT_NUMBER, ours.fileno(), descriptor, inherited)
                fcntl.ioctl(listener, _REPLACE, replacement)
        finally:
            os.close(handle)

    def _read(self, task: int, address: int, length: int) -> bytes:
        """The path in an address."""
        if not 2 < length <= _MAX_ADDRESS:
            raise OSError(errno.EINVAL, "the address has no path")
        memory = os.open(f"{task}/mem", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
        try:
            data = os.pread(memory, length, address)
        finally:
            os.close(memory)
        family, path = data[:2], data[2:].split(b"\0")[0]
        if family != struct.pack("=H", socket.AF_UNIX) or not path:
            raise PermissionError(errno.EPERM, "only sockets with a path can be connected to")
        return path

    def _open(self, task: int, descriptor: int, path: bytes) -> tuple[int, int]:
        """A handle (O_PATH) of what is at a task's path, and the flags of the task's descriptor."""
        if not os.readlink(f"{task}/fd/{descriptor}", dir_fd=self._proc).startswith("socket:"):
            raise OSError(errno.ENOTSOCK, "the descriptor is not a socket")
        with open(os.open(f"{task}/fdinfo/{descriptor}", os.O_RDONLY, dir_fd=self._proc)) as entry:
            fields = dict(line.split(":", 1) for line in entry if ":" in line)
        folder = os.open(f"{task}/cwd", os.O_PATH | os.O_CLOEXEC, dir_fd=self._proc)
        try:
            return os.open(path, os.O_PATH | os.O_CLOEXEC, dir_fd=folder), int(fields["flags"], 8)
        finally:
            os.close(folder)

    def _is_own_socket(self, handle: int) -> bool:
        place = os.readlink(f"/proc/self/fd/{handle}")
        return stat.S_ISSOCK(os.fstat(handle).st_mode) and place.startswith(self._folders)

    @contextlib.contextmanager
    def _as_owner(self) -> Iterator[None]:
        """Act as the commands' user, who may look into their memory even where root may not."""
        if self._uid is None:
            yield
            return
        group, user = os.getegid(), os.geteuid()
        os.setegid(self._uid)
        os.seteuid(self._uid)
        try:
            yield
        finally:
            os.seteuid(user)
            os.setegid(group)
