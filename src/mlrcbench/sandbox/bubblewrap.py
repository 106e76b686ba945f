"""An optional backend that runs each command in a fresh bubblewrap sandbox, under the same supervisor.

It is for systems that refuse `strong` because they allow namespaces only to `bwrap` (by an AppArmor
profile, or a setuid binary). The supervisor itself is an ordinary process of the same user.

It refuses to work as root: bubblewrap does not change the user there, and root without
capabilities still owns the machine's files and controls. It uses no Landlock rules, which would
forbid bubblewrap its mounts, so the private tree is the only barrier for files.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess

from mlrcbench.errors import SandboxError
from mlrcbench.sandbox import readable
from mlrcbench.sandbox.contract import Isolation, Policy
from mlrcbench.sandbox.supervised import SupervisedSandbox
from mlrcbench.sandbox.supervisor.namespaces import gpu_devices

ISOLATION = Isolation(
    "bubblewrap",
    (
        "environment variables of the host process are not passed on",
        "no process of a command is left when it has ended",
        "files: what is not allowed does not exist inside; only the workspace is writable",
        "processes: those outside cannot be seen, traced or signalled",
        "network: none but a loopback of its own",
        "privileges: none can be gained; every capability is dropped",
        "wall time, CPU time, output, file size, memory and the workspace's size are limited",
    ),
    (
        "files: the private tree is the only barrier, there are no Landlock rules",
        "system calls are not filtered",
        "memory in /tmp and /dev/shm is limited by the watchdog alone",
        "processes: their number is watched, not limited by the kernel",
        "the kernel's own bugs, and side channels such as timing and load, are not covered",
    ),
)


class BubblewrapSandbox(SupervisedSandbox):
    """Runs each command through `bwrap`. It runs no jobs."""

    runs_jobs = False

    def __init__(self, policy: Policy) -> None:
        """Check that bubblewrap works here.

        Raises:
            SandboxError: `bwrap` is missing or refused, or this process runs as root.
        """
        if reason := unavailable():
            raise SandboxError(reason)
        super().__init__("process", policy)

    @property
    def isolation(self) -> Isolation:
        """What bubblewrap enforces."""
        if self._policy.network:
            enforced = tuple(line for line in ISOLATION.enforced if not line.startswith("network"))
            return Isolation("bubblewrap", enforced, (*ISOLATION.missing, "network: open"))
        return ISOLATION

    def _argv(self, command: str) -> list[str]:
        return [_binary(), *self._options(), "--", *super()._argv(command)]

    def _options(self) -> list[str]:
        options = [
            "--unshare-all",
            "--new-session",
            "--cap-drop",
            "ALL",
            "--hostname",
            "sandbox",
        ]
        options += ["--share-net"] if self._policy.network else []
        options += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        view = readable.view()
        for path in view.system:
            if os.path.islink(path):
                options += ["--symlink", os.readlink(path), path]
            else:
                options += ["--ro-bind", path, path]
        for path in view.masks:
            options += ["--tmpfs", path] if os.path.isdir(path) else ["--ro-bind", "/dev/null", path]
        for path, target in view.links:
            options += ["--symlink", target, path]
        for path in self._readable:
            options += ["--ro-bind", path, path]
        for device in gpu_devices() if self._policy.gpu else ():
            options += ["--dev-bind", device, device]
        for path in (self._workspace, self._home):
            options += ["--bind", path, path]
        return [*options, "--chdir", self._workspace]


@functools.cache
def unavailable() -> str:
    """Why bubblewrap cannot be used here; empty if it can."""
    if os.geteuid() == 0:
        return (
            "bubblewrap is not used as root, where it does not change the user; use sandbox='strong' or 'uid'"
        )
    binary = shutil.which("bwrap")
    if binary is None:
        return "bwrap is missing on this machine; install the package 'bubblewrap'"
    try:
        trial = subprocess.run(
            [binary, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "true"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bwrap could not be run: {error}"
    return "" if trial.returncode == 0 else f"bwrap is refused here: {trial.stderr.strip()}"


def _binary() -> str:
    path = shutil.which("bwrap")
    if path is None:
        raise SandboxError("bwrap has disappeared from this machine")
    return path
