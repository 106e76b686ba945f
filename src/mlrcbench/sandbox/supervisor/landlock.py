"""Landlock: which files a process and its descendants may still open, and how.

Rules can only allow, so nothing below an allowed folder can be excepted. A rule that the kernel
rejects raises an error; it is never dropped. Only rights that an older kernel does not know may be
absent; `missing` says which, in sentences.

Landlock does not hide files: their size, owner and times can be read, and if the user is the
same, their mode and times can be changed.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
from collections.abc import Iterable

from . import kernel

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_MAKE_DIR, _MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_SYM = 1 << 7, 1 << 8, 1 << 9, 1 << 10, 1 << 12
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

READ = _EXECUTE | _READ_FILE | _READ_DIR
LIST = _READ_DIR
WRITE = (
    READ | _WRITE_FILE | _TRUNCATE | _REMOVE_DIR | _REMOVE_FILE | _REFER
    | _MAKE_DIR | _MAKE_REG | _MAKE_SOCK | _MAKE_FIFO | _MAKE_SYM
)  # fmt: skip
DEVICE = _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV
OVERWRITE = READ | _WRITE_FILE | _TRUNCATE

_SINCE = {1: (1 << 13) - 1, 2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEV}
_NET_SINCE, _SCOPE_SINCE = 4, 6
_TCP = 3  # bind and connect
_SCOPES = 3  # abstract sockets and signals


def abi() -> int:
    """The version of Landlock in this kernel; 0 if it has none."""
    if sys.platform != "linux":
        return 0
    try:
        return kernel.syscall("landlock_create_ruleset", _CREATE, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def missing(version: int) -> tuple[str, ...]:
    """Sentences on what a kernel with this Landlock version cannot enforce."""
    notes = []
    if version < 3:
        notes.append(
            "files: one that cannot be opened can be emptied by truncate (Landlock before Linux 6.2)"
        )
    if version < _SCOPE_SINCE:
        notes.append("processes: others of the same user can be signalled (Landlock before Linux 6.12)")
    return tuple(notes)


class Ruleset:
    """A set of allowed paths, which each launcher applies to itself."""

    def __init__(self, *, restrict_tcp: bool) -> None:
        version = abi()
        if not version:
            raise OSError(
                "this kernel has no Landlock; it needs Linux 5.13 or later with landlock in its lsm list"
            )
        self._known = 0
        for since, rights in _SINCE.items():
            self._known |= rights if version >= since else 0
        attributes = struct.pack("=Q", self._known)
        if version >= _NET_SINCE:
            attributes += struct.pack("=Q", _TCP if restrict_tcp else 0)
        if version >= _SCOPE_SINCE:
            attributes += struct.pack("=Q", _SCOPES)
        self.descriptor = kernel.syscall("landlock_create_ruleset", _CREATE, attributes, len(attributes), 0)

    def allow(self, path: str, rights: int) -> None:
        """Allow a path and, if it is a folder, everything below it.

        Raises:
            OSError: The path does not exist, or the kernel rejects the rule.
        """
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            self.allow_open(descriptor, rights)
        finally:
            os.close(descriptor)

    def allow_open(self, descriptor: int, rights: int) -> None:
        """Allow a path that is open as an O_PATH descriptor."""
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _FILE_RIGHTS
        rule = struct.pack("=Qi", rights & self._known, descriptor)
        kernel.syscall("landlock_add_rule", _ADD, self.descriptor, _PATH_BENEATH, rule, 0)

    def allow_all(self, paths: Iterable[str], rights: int) -> None:
        """Allow several paths, with the same rights."""
        for path in paths:
            self.allow(path, rights)

    def restrict_self(self) -> None:
        """Confine this process for good, which must have set no_new_privs."""
        kernel.syscall("landlock_restrict_self", _RESTRICT, self.descriptor, 0)
