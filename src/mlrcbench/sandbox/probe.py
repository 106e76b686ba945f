"""Which sandboxes work here: each tier must prove itself before it is used.

Nothing is inferred from the user, the kernel's version, or the system's name. Instead a real
command runs in the tier and tries what agent code would try first: to read a file that it must
not read, to trace, signal or connect to its host, and to look at the host's processes. A tier in
which one of these succeeds, or which does not work at all, is not used. The result is kept as long
as this process lives.

A probe tries some attacks, not all of them. It shows that the mechanisms are active, and does not
replace their tests.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlrcbench.errors import SandboxError
from mlrcbench.sandbox import readable
from mlrcbench.sandbox.contract import Limits, Policy, interpreter
from mlrcbench.sandbox.supervised import SupervisedSandbox
from mlrcbench.sandbox.supervisor import landlock

TIERS = ("strong", "uid", "landlock")
_LANDLOCK = "Linux 5.13 or later with landlock in the kernel's lsm list (boot parameter lsm=landlock,...)"
_FIXES = {
    "strong": (
        "It needs Linux 5.12 or later, and for an ordinary user user namespaces "
        "(sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0, "
        "user.max_user_namespaces>0), for root CAP_SYS_ADMIN"
    ),
    "uid": f"It needs root with CAP_SETUID, folders that every user can reach, and {_LANDLOCK}",
    "landlock": f"It needs {_LANDLOCK}",
}
_SECONDS = 30.0

# Runs inside, and prints the names of the attempts that succeeded.
_ATTEMPT = r"""
import ctypes, json, os, socket, sys
host = json.loads(sys.argv[1])
def another():  # whether the host's process number means another process here
    try:
        return open(f"/proc/{host['pid']}/stat").read().rpartition(")")[2].split()[19] != host["start"]
    except OSError:
        return False
def read():
    open(host["canary"]).read()
def signal():
    os.kill(host["pid"], 0)
    if another():
        raise OSError
def trace():
    if another():
        raise OSError
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(0x4206, host["pid"], 0, 0) != 0:  # PTRACE_SEIZE, which does not stop the host process
        raise OSError
def memory():
    if another():
        raise OSError
    open(f"/proc/{host['pid']}/mem", "rb").close()
def environ():
    if another():
        raise OSError
    open(f"/proc/{host['pid']}/environ", "rb").read(1)
def socket_with_path():
    socket.socket(socket.AF_UNIX).connect(host["socket"])
def abstract():
    socket.socket(socket.AF_UNIX).connect("\0" + host["abstract"])
def tcp():
    socket.create_connection(("127.0.0.1", host["port"]), timeout=2)
def processes():
    open(f"/proc/{host['pid']}/cmdline").read()
    if another():
        raise OSError
def library():
    open(host["library"]).read()
worked = []
for attempt in (read, signal, trace, memory, environ, socket_with_path, abstract, tcp, processes, library):
    try:
        attempt()
    except Exception:
        continue
    worked.append(attempt.__name__)
print(json.dumps(worked))
"""


@dataclass(frozen=True)
class ProbeResult:
    """The result of a probe.

    Attributes:
        works: Whether the tier may be used.
        reason: Why it may not, and what would help; empty if it works.
    """

    works: bool
    reason: str = ""


@functools.cache
def probe_tier(tier: str) -> ProbeResult:
    """Whether a tier works for this process, according to a probe."""
    if not sys.platform.startswith("linux"):
        return ProbeResult(False, f"sandboxes need Linux; this is {sys.platform!r}")
    if os.geteuid() == 0 and tier != "landlock" and (closed := readable.closed_to_others()):
        return ProbeResult(
            False,
            f"commands run as another user here, who cannot read {closed}, which the interpreter needs "
            f"(chmod -R a+rX {shlex.quote(closed)})",
        )
    try:
        worked = _attempt(tier)
    except SandboxError as error:
        return ProbeResult(False, f"{error}. {_FIXES[tier]}.")
    except OSError as error:
        return ProbeResult(False, f"the probe could not be set up: {error}")
    if worked:
        return ProbeResult(False, f"a probe inside could still do this: {', '.join(worked)}. {_FIXES[tier]}.")
    return ProbeResult(True)


def _attempt(tier: str) -> list[str]:
    """Run the attempts inside; returns the names of those that succeeded and should not have."""
    with _scene() as (policy, host), SupervisedSandbox(tier, policy) as sandbox:
        (policy.workspace / "attempt.py").write_text(_ATTEMPT)
        command = shlex.join([interpreter(), "-I", "-S", "attempt.py", json.dumps(host)])
        result = sandbox.run(command, Limits(seconds=_SECONDS))
    text = (result.head + result.tail).decode(errors="replace")
    if result.exit_status != 0:
        raise SandboxError(
            f"the interpreter could not be run inside (status {result.exit_status}): {text.strip()}"
        )
    worked = json.loads(text.splitlines()[-1])
    return [name for name in worked if name not in _tolerated(tier)]


def _tolerated(tier: str) -> set[str]:
    """Attempts that succeed in a tier on this kernel, because of gaps that its `Isolation` lists."""
    if tier == "strong":
        return set()
    tolerated = {"processes"}
    if landlock.abi() < 6 and tier == "landlock":
        tolerated.add("signal")
    return tolerated


@contextmanager
def _scene() -> Iterator[tuple[Policy, dict[str, object]]]:
    """A policy with a workspace, and what its commands must not reach: names and numbers for the attempts."""
    folder = Path(tempfile.mkdtemp(prefix="mlrcbench-probe-", dir=_probe_root()))
    try:
        folder.chmod(0o711)
        workspace = folder / "workspace"
        workspace.mkdir()
        canary = folder / "canary"
        canary.write_text("canary")
        path = folder / "socket"
        unix = socket.AF_UNIX
        with socket.socket(unix) as named, socket.socket(unix) as placed, socket.socket() as tcp:
            placed.bind(str(path))
            path.chmod(0o777)
            placed.listen()
            name = f"mlrcbench-probe-{os.getpid()}-{os.urandom(6).hex()}"
            named.bind("\0" + name)
            named.listen()
            tcp.bind(("127.0.0.1", 0))
            tcp.listen()
            yield (
                Policy(workspace),
                {
                    "canary": str(canary),
                    "pid": os.getpid(),
                    "start": Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19],
                    "socket": str(path),
                    "abstract": name,
                    "port": tcp.getsockname()[1],
                    "library": str(Path(readable.__file__)),
                },
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _probe_root() -> str:
    return "/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir()
