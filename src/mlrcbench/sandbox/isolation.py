"""What each tier enforces, and what it does not."""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING

from mlrcbench.sandbox.contract import Isolation
from mlrcbench.sandbox.supervisor import control_group, landlock

if TYPE_CHECKING:
    from mlrcbench.sandbox.contract import Policy

_ALWAYS = (
    "environment variables of the host process are not passed on",
    "no process of a command is left when it has ended",
    "wall time, CPU time, output, file size, memory and the workspace's size are limited",
)
_CONFINED = (
    "files: only the system, the interpreter, named data and the workspace can be read",
    "files: only the workspace and private folders can be written",
    "files: the library itself cannot be read",
    "processes: none outside the sandbox can be traced, and none of their memory read",
    "privileges: none can be gained; every capability is dropped",
)
_STRONG = (
    "files: what is not allowed does not exist inside, so neither its names nor its metadata can be seen",
    "processes: those outside cannot be seen or signalled",
    "processes: their number is limited by the kernel",
    "memory: /tmp and /dev/shm are private, limited, and emptied after each command",
)
_NO_KERNEL_BUGS = (
    "the kernel's own bugs, and side channels such as timing, load, and which files are in the machine's "
    "cache, are not covered"
)
_NETWORK_OPEN = "network: open, because this competition asks for it"
_WATCHED = (
    "memory and CPU time of the process tree and the workspace's size are watched, so they can be passed for "
    "a moment; shorter processes, whose parents ignore their ends, use CPU time that is not counted"
)
_NOT_COUNTED = (
    "memory: shared memory of which a process maps only a part counts by that part, as no control group can "
    "be made here; the machine's own memory is then the limit"
)
_LOCKS = (
    "files: a lock on a file that others can read too, such as public data, can be seen by their commands"
)
_IN_FLIGHT = (
    "workspace: files without a name in messages that nobody has received do not count; there can be as many "
    "as a process may open files, each as large as a file may be"
)
_SUPPLIES = (
    "what the kernel counts for each user (pages in pipes, watched descriptors of epoll) is shared with the "
    "host process"
)
_SHARED_MEMORY = "files: /dev/shm is shared with the machine, and what is left there is not limited"
_METADATA = (
    "files: size, owner and times of hidden files can be read",
    "files: reading a file of the system may change the time of its last use, which others can see",
    "processes: command lines of others, and all locks on files, can be seen in /proc",
)
_SAME_USER = (
    "files: those of this user in /dev/shm can be read, and others left there",
    "files: mode and times of hidden files of this user can be changed",
    "processes: their number is watched, not limited by the kernel per sandbox",
)


def describe(tier: str, policy: Policy | None = None) -> Isolation:
    """The isolation of a tier on this kernel.

    Args:
        tier: "strong", "uid", "landlock" or "process".
        policy: A policy, whose network and GPU are then taken into account.
    """
    if tier == "process":
        return _none()
    network = policy is not None and policy.network
    version = landlock.abi()
    enforced: tuple[str, ...] = _ALWAYS + _CONFINED
    missing: tuple[str, ...] = (_NO_KERNEL_BUGS, _WATCHED, _LOCKS, _IN_FLIGHT)
    missing += () if counts_memory() else (_NOT_COUNTED,)
    missing += () if os.geteuid() == 0 and tier != "landlock" else (_SUPPLIES,)
    if tier == "strong":
        enforced += _STRONG
        if not network:
            enforced += ("network: none but a loopback of its own",)
        if not version:
            missing += ("files: the private tree is the only barrier, this kernel has no Landlock",)
        if network and version < 6:
            missing += ("sockets: abstract unix sockets can be connected to (Landlock before Linux 6.12)",)
    else:
        missing += (_SHARED_MEMORY, *_METADATA)
        enforced += _plain_network(network)
        missing += _unscoped(version, own_user=tier == "uid")
        if tier == "uid":
            enforced += ("processes: those of other users cannot be signalled", _STRONG[2])
        else:
            missing += _SAME_USER
    if network:
        missing += (_NETWORK_OPEN,)
    if policy is not None and policy.gpu:
        missing += _gpu(tier)
    return Isolation(tier, enforced, missing)


@functools.cache
def counts_memory() -> bool:
    """Whether a control group can count the memory of a sandbox."""
    if not sys.platform.startswith("linux"):
        return False
    parents = control_group.parents()
    for parent in parents:
        os.close(parent.folder)
    return any("memory" in parent.controllers for parent in parents)


def _plain_network(network: bool) -> tuple[str, ...]:
    if network:
        return ("sockets: no unix sockets but pairs can be made",)
    return (
        "network: no socket but unix sockets can be made",
        "sockets: only unix sockets in the workspace and in private folders can be connected to",
    )


def _unscoped(version: int, *, own_user: bool) -> tuple[str, ...]:
    notes = landlock.missing(version)
    return tuple(note for note in notes if not (own_user and note.startswith(("processes", "files"))))


def _gpu(tier: str) -> tuple[str, ...]:
    notes: tuple[str, ...] = (
        "GPU: its driver is within reach, and its memory is shared with other programs on it",
    )
    if tier == "landlock":
        notes += (
            "GPU: CUDA with a driver of version 570 or later does not start, as /proc cannot be written to",
        )
    return notes


def _none() -> Isolation:
    return Isolation(
        "none",
        _ALWAYS,
        (
            "files: a command can read and write everything that this user can, the answers included",
            "network: open",
            "processes: others of this user can be seen, traced and signalled, the supervisor too",
            "privileges: those of this user" + (", who is root" if os.geteuid() == 0 else ""),
            _WATCHED,
            "processes: their number is watched, not limited by the kernel",
        ),
    )
