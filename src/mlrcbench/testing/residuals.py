"""What each tier is known to leave open. Everything here is also said by the sandbox itself.

Under `landlock`, commands run as the same user as the library, in the same namespaces: whatever
the kernel decides by user alone is open to them. None of it leads to answers.
"""

from __future__ import annotations

from collections.abc import Mapping

from mlrcbench.sandbox.supervisor import rules

_SHARED = "/dev/shm is one folder for the whole machine; only a mount namespace gives a command its own"
_OWNER = "the same user owns the file, and Landlock has no rule for permissions, times and attributes"
_LOOK = "Landlock does not hide metadata"
_SOCKET = "the same user may connect, and Landlock has no rule for sockets with a path"

RESIDUALS: Mapping[str, Mapping[str, str]] = {
    "strong": {},
    "uid": {
        "command-line": "/proc shows every process's arguments without a namespace for processes",
        "memory-dev-shm": _SHARED,
        "smuggle-attributes": "Landlock has no rule for attributes of folders that all may write to",
    },
    "landlock": {
        "command-line": "/proc shows every process's arguments without a namespace for processes",
        "posix-shared-memory": _SHARED,
        "leave-shared-memory": _SHARED,
        "smuggle-dev-shm": _SHARED,
        "memory-dev-shm": _SHARED,
        "path-socket": _SOCKET,
        "send-path": _SOCKET,
        "metadata": _LOOK,
        "inotify": _LOOK,
        "tamper-mode": _OWNER,
        "tamper-times": _OWNER,
        "tamper-attribute": _OWNER,
        "smuggle-file-times": _OWNER,
        "smuggle-attributes": _OWNER,
    },
}
# Landlock forbids these from Linux 6.12 on.
_UNSCOPED = (
    "abstract-socket", "send-abstract", "kill", "terminate", "stop", "kill-group", "kill-by-descriptor",
    "kill-thread", "kill-by-owner", "signal-library",
)  # fmt: skip
_TRUNCATE = "tamper-truncate"
_SUFFIXES = ("-evaluated", "-submitted")


def residual(tier: str, attack: str) -> str:
    """Why an attack's gain is known of a tier on this kernel; empty if it is not.

    Args:
        tier: As `Isolation.tier`.
        attack: An attack's name.
    """
    name = attack
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    known = RESIDUALS.get(tier, {}).get(name, "")
    version = rules.abi()
    if not known and tier == "landlock" and name in _UNSCOPED and version < 6:
        return "before Linux 6.12 Landlock has no rule for signals and abstract sockets"
    if not known and tier == "uid" and name in ("abstract-socket", "send-abstract") and version < 6:
        return "before Linux 6.12 Landlock has no rule for abstract sockets"
    if not known and tier == "landlock" and name == _TRUNCATE and version < 3:
        return "before Linux 6.2 Landlock has no rule for cutting files"
    return known
