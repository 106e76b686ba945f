"""System calls that the standard library lacks, through ctypes.

The numbers and structures belong to the kernel's stable interface. Every wrapper raises an
`OSError` with the call's name if the call fails; none ignores a failure.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

ARCHITECTURE = os.uname().machine

# prctl(2)
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_SECCOMP = 22
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

# Namespaces
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# Mounts
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
ATTR_RDONLY = 1
ATTR_NOSUID = 2
ATTR_NODEV = 4
ATTR_IDMAP = 0x00100000

CAP_SYS_ADMIN = 21
CAP_SETUID = 7

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_SYS_MOVE_MOUNT = 429
_SYS_OPEN_TREE = 428
_SYS_MOUNT_SETATTR = 442
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 63
# keep-caps off, no-setuid-fixup, no-root and no-ambient-raise: each on and locked.
_SECUREBITS = 0xEF


def checked(result: int, call: str) -> int:
    """The result of a C call; if it failed, its errno is raised."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def syscall(call: str, number: int, *arguments: int | bytes | ctypes.c_void_p | None) -> int:
    """Make a system call by its number; `call` is its name for errors."""
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return checked(_libc.syscall(ctypes.c_long(number), *wide), call)


def prctl(option: int, *arguments: int | ctypes.c_void_p) -> int:
    """Change a setting of this process; arguments that are left out are 0."""
    wide = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments]
    wide += [ctypes.c_ulong(0)] * (4 - len(wide))
    return checked(_libc.prctl(ctypes.c_int(option), *wide), f"prctl({option})")


def end_with(parent: int) -> None:
    """Have the kernel end this process when the thread that started it ends, however that happens.

    It stays so when this process starts another program in its place, unless that becomes another user.

    Args:
        parent: Process number of that thread's process; if it has ended already, this process ends now.
    """
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def unshare(flags: int) -> None:
    """Move this process (and for CLONE_NEWPID its children) into new namespaces."""
    checked(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mount a file system."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    checked(_libc.mount(*encoded[:3], ctypes.c_ulong(flags), encoded[3]), f"mount {target}")


def unmount(target: str) -> None:
    """Detach a mount and everything below it."""
    checked(_libc.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root of the file tree, and mount the old root at `old`."""
    number = {"x86_64": 155, "aarch64": 41}[ARCHITECTURE]
    syscall("pivot_root", number, os.fsencode(new), os.fsencode(old))


def bind(source: str, target: str, attributes: int, id_map: int | None = None) -> None:
    """Mount `source`, with all mounts below it, at `target` as well.

    Args:
        source: A file or folder.
        target: An existing file or folder of the same kind.
        attributes: ATTR_ flags, set on every mount of the copied tree.
        id_map: A user namespace whose map translates the owners of the files.
    """
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    tree = syscall(f"open_tree {source}", _SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(source), flags)
    try:
        if id_map is not None:
            attributes |= ATTR_IDMAP
        set_attributes(tree, "", attributes, id_map or 0)
        syscall(
            f"move_mount {target}",
            _SYS_MOVE_MOUNT,
            tree,
            b"",
            _AT_FDCWD,
            os.fsencode(target),
            _MOVE_MOUNT_F_EMPTY_PATH,
        )
    finally:
        os.close(tree)


def set_attributes(tree: int, path: str, attributes: int, id_map: int = 0) -> None:
    """Set attributes of the mount at `path`; with an empty path, of all mounts of an open tree."""
    record = struct.pack("=QQQQ", attributes, 0, 0, id_map)
    flags = 0 if path else _AT_EMPTY_PATH | _AT_RECURSIVE
    folder = _AT_FDCWD if path else tree
    syscall("mount_setattr", _SYS_MOUNT_SETATTR, folder, os.fsencode(path), flags, record, len(record))


def has_capability(number: int) -> bool:
    """Whether this process has a capability in effect."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
    return False


def drop_bounding_set() -> None:
    """Let programs that this process or its children start gain no capability; it keeps its own."""
    for number in range(_LAST_CAPABILITY + 1):
        try:
            prctl(PR_CAPBSET_DROP, number)
        except OSError:
            break  # the kernel has no more capabilities, or this process has none and may not drop any


def drop_privileges(uid: int | None) -> None:
    """Give up every capability for good, and become another user if one is given.

    Later, even a program that is started as uid 0 gains no capability.

    Args:
        uid: Number of the user and group to become; None keeps the present ones.
    """
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    with contextlib.suppress(PermissionError):  # only a process with CAP_SETPCAP can, or needs to
        prctl(PR_SET_SECUREBITS, _SECUREBITS)
    if uid is not None:
        become(uid)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    checked(_libc.capset(header, bytes(24)), "capset")


def become(uid: int) -> None:
    """Switch to the user and the group of this number, and to no other group."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def map_ids(process: str, inside: int, outside: int, inside_group: int, outside_group: int) -> None:
    """Map one user and one group into the user namespace of a process.

    Args:
        process: Folder of the process under /proc.
        inside: Number of the user inside.
        outside: The same user's number outside.
        inside_group: Number of the group inside.
        outside_group: The same group's number outside.
    """
    _write(f"{process}/setgroups", "deny")
    _write(f"{process}/uid_map", f"{inside} {outside} 1")
    _write(f"{process}/gid_map", f"{inside_group} {outside_group} 1")


def loopback_up() -> None:
    """Start the loopback device of a fresh network namespace."""
    request = struct.pack("16sh22x", b"lo", 0x1)  # IFF_UP
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
