"""What each tier is known to leave open. The sandbox itself reports all of this too.

Under `landlock`, commands run as the same user as the library, in the same namespaces: whatever
the kernel decides by user alone is open to them, unless a filter of system calls or the supervisor
refuses it.
"""

from __future__ import annotations

from collections.abc import Mapping

from mlrcbench.sandbox.isolation import counts_memory
from mlrcbench.sandbox.supervisor import landlock

_SHARED = "/dev/shm is one folder for the whole machine; only a mount namespace gives a command its own"
_OWNER = "the same user owns the file, and Landlock has no rule for permissions, times and attributes"
_LOOK = "Landlock does not hide metadata"
_TABLES = "/proc shows the arguments of every process, and all locks, without a namespace for processes"
_LOCKS = "the kernel has no rule for locks on files that may be read"
_IN_FLIGHT = "no interface of the kernel shows which files are in messages on their way"
_EVERYWHERE = {"file-locks": _LOCKS, "record-locks": _LOCKS, "files-in-flight": _IN_FLIGHT}

RESIDUALS: Mapping[str, Mapping[str, str]] = {
    "strong": _EVERYWHERE,
    "uid": {
        **_EVERYWHERE,
        "lock-table": _TABLES,
        "command-line": _TABLES,
        "memory-dev-shm": _SHARED,
        "smuggle-attributes": "Landlock has no rule for attributes of folders that all may write to",
    },
    "landlock": {
        **_EVERYWHERE,
        "lock-table": _TABLES,
        "command-line": _TABLES,
        "posix-shared-memory": _SHARED,
        "leave-shared-memory": _SHARED,
        "smuggle-dev-shm": _SHARED,
        "memory-dev-shm": _SHARED,
        "metadata": _LOOK,
        "tamper-mode": _OWNER,
        "tamper-times": _OWNER,
        "tamper-attribute": _OWNER,
        "smuggle-file-times": _OWNER,
        "smuggle-attributes": _OWNER,
    },
}
# Landlock forbids these from Linux 6.12 on.
_UNSCOPED = (
    "kill", "terminate", "stop", "kill-group", "kill-by-descriptor",
    "kill-thread", "kill-by-owner", "signal-library",
)  # fmt: skip
_TRUNCATE = "tamper-truncate"
# Only a control group, or root, sees these.
UNCOUNTED = ("memory-unmapped",)
_SUFFIXES = ("-evaluated", "-submitted")


def residual(tier: str, attack: str) -> str:
    """Why a tier is known to let an attack gain on this kernel; empty if it is not known to.

    Args:
        tier: An isolation's tier, such as "landlock".
        attack: An attack's name.
    """
    name = attack
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    known = RESIDUALS.get(tier, {}).get(name, "")
    version = landlock.abi()
    if not known and tier == "landlock" and name in _UNSCOPED and version < 6:
        return "before Linux 6.12 Landlock has no rule for signals"
    if not known and name in UNCOUNTED and not counts_memory():
        return "no control group can be made here, and the kernel shows only root what is not mapped"
    if not known and tier == "landlock" and name == _TRUNCATE and version < 3:
        return "before Linux 6.2 Landlock has no rule for cutting files"
    return known
