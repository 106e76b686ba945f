"""Routes to more rights than a command should have; each claims what it could do.

A route that succeeds does not change the machine: it writes what was there before.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import socket
import struct
import tempfile
from collections.abc import Callable
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
Facts = dict[str, Any]


def call(number: int, *arguments: Any) -> int:
    """Make a system call; an error is raised."""
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def rewrite(path: str) -> Callable[[Facts], str]:
    """A route that writes a kernel setting's present value into it."""

    def route(_facts: Facts) -> str:
        with open(path, "r+b", buffering=0) as file:
            before = file.read()
            file.seek(0)
            file.write(before)
        return f"claim:wrote-{os.path.basename(path)}"

    return route


def user_namespace(_facts: Facts) -> str:
    """Become root of a user namespace."""
    if libc.unshare(0x10000000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    return "claim:user-namespace"


def own_mounts() -> None:
    """Enter a new mount namespace where that is allowed, so that the machine's mounts stay as they are."""
    if libc.unshare(0x00020000) == 0 and libc.mount(b"none", b"/", None, 16384 | 262144, None) != 0:
        raise OSError(ctypes.get_errno(), "private mounts")


def mount(_facts: Facts) -> str:
    """Mount a file system over a folder."""
    target = tempfile.mkdtemp(dir=".")
    own_mounts()
    if libc.mount(b"tmpfs", target.encode(), b"tmpfs", 0, None) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    libc.umount2(target.encode(), 2)
    return "claim:mounted"


def unmount(facts: Facts) -> str:
    """Unmount what hides files."""
    own_mounts()
    for path in (facts["library"], "/proc/sys", "/proc", "/tmp"):
        if libc.umount2(path.encode(), 2) == 0:
            return "claim:unmounted"
    raise OSError(ctypes.get_errno(), "umount2")


def escape_root(facts: Facts) -> str:
    """Leave a changed root folder by changing it again."""
    scratch = tempfile.mkdtemp(dir=".")
    start = os.open(".", os.O_RDONLY)
    os.chroot(scratch)
    os.fchdir(start)
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    with open(facts["token_file"], "rb") as file:
        return file.read().decode()


def become_root(_facts: Facts) -> str:
    """Switch to user 0, unless this process already has it."""
    if os.geteuid() == 0:
        raise OSError("already user 0")
    os.setuid(0)
    return "claim:user-0"


def capability(_facts: Facts) -> str:
    """Find a capability that this process has."""
    with open("/proc/self/status", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    held = {name: int(lines[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")}
    if any(held.values()):
        return "claim:capabilities"
    raise OSError(f"this process has no capability: {held}")


def new_privileges(_facts: Facts) -> str:
    """Check whether set-user-id programs would give this process more rights."""
    if libc.prctl(39, 0, 0, 0, 0) == 0:
        return "claim:new-privileges"
    raise OSError("no_new_privs is set")


def keyring(_facts: Facts) -> str:
    """Leave a key in the kernel's store, where a later command would find it."""
    call(248, b"user", b"attack", b"x", 1, -4)
    return "claim:keyring"


def program(_facts: Facts) -> str:
    """Load a program into the kernel."""
    attributes = struct.pack("IIIIQ", 1, 4, 4, 1, 0) + bytes(96)
    call(321, 0, ctypes.create_string_buffer(attributes), len(attributes))
    return "claim:bpf"


def performance(facts: Facts) -> str:
    """Watch other processes' performance counters."""
    attributes = ctypes.create_string_buffer(struct.pack("IIQ", 1, 112, 0) + bytes(96))
    call(298, attributes, facts["victim"]["pid"], -1, -1, 0)
    return "claim:perf"


def module(_facts: Facts) -> str:
    """Load a kernel module; the error that it is malformed means that loading is allowed."""
    try:
        call(175, b"none", 4, b"")
    except OSError as error:
        if error.errno == errno.ENOEXEC:
            return "claim:module"
        raise
    return "claim:module"


def packets(_facts: Facts) -> str:
    """Listen to the machine's network."""
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300).close()
    return "claim:packets"


def limits(_facts: Facts) -> str:
    """Raise this process's own limits."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if hard == resource.RLIM_INFINITY:
        return "claim:unlimited"
    resource.setrlimit(resource.RLIMIT_CORE, (hard + 1, hard + 1))
    return "claim:limits"


def others_limits(facts: Facts) -> str:
    """Set another process's limits to what they are."""
    pid = facts["victim"]["pid"]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, resource.prlimit(pid, resource.RLIMIT_NOFILE))
    return "claim:prlimit"


def others_affinity(facts: Facts) -> str:
    """Set on which processors another process runs."""
    pid = facts["victim"]["pid"]
    os.sched_setaffinity(pid, os.sched_getaffinity(pid))
    return "claim:affinity"


def others_priority(facts: Facts) -> str:
    """Lower another process's priority."""
    os.setpriority(os.PRIO_PROCESS, facts["victim"]["pid"], 1)
    return "claim:priority"


def user_priority(_facts: Facts) -> str:
    """Set the priority of all processes of this user, to what this process has."""
    os.setpriority(os.PRIO_USER, 0, os.getpriority(os.PRIO_PROCESS, 0))
    return "claim:priority"


def sysrq_and_others(_facts: Facts) -> str:
    """Open the file through which the kernel takes commands."""
    os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY))
    return "claim:sysrq"


def group(facts: Facts) -> str:
    """Make a new control group, without limits."""
    for root, folders, _ in os.walk("/sys/fs/cgroup"):
        path = f"{root}/{facts['marker']}"
        try:
            os.mkdir(path)
        except OSError:
            del folders[3:]
            continue
        os.rmdir(path)
        return "claim:control-group"
    raise OSError("no control group could be made")


ROUTES: dict[str, Callable[[Facts], Any]] = {
    "user-namespace": user_namespace,
    "mount": mount,
    "unmount": unmount,
    "chroot": escape_root,
    "user-0": become_root,
    "capabilities": capability,
    "new-privileges": new_privileges,
    "keyring": keyring,
    "bpf": program,
    "perf-event": performance,
    "kernel-module": module,
    "packet-socket": packets,
    "own-limits": limits,
    "limits-of-others": others_limits,
    "affinity-of-others": others_affinity,
    "priority-of-others": others_priority,
    "priority-of-the-user": user_priority,
    "core-pattern": rewrite("/proc/sys/kernel/core_pattern"),
    "kernel-settings": rewrite("/proc/sys/vm/swappiness"),
    "sysrq": sysrq_and_others,
    "control-group": group,
}
