"""Which sandboxes work here: each tier has to prove itself before it is used.

Nothing is inferred from the user, the kernel's version, or the system's name. A real command
is run in the tier, and tries what agent code would try first: read a file it must not, trace
and signal its host, connect to it, look at its processes. A tier that lets one of these pass,
or does not work at all, is not used. The result is kept for the life of the process.

A probe tries some doors, not all of them; it shows that the mechanisms are at work, and does
not replace the tests of each.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlrcbench.errors import SandboxError
from mlrcbench.sandbox import Limits, Policy, Sandbox, visible
from mlrcbench.sandbox.isolation import describe
from mlrcbench.sandbox.landlock import SupervisedSandbox
from mlrcbench.sandbox.supervisor import rules

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

# Runs inside. Each line of the answer is one thing that worked.
_ATTEMPT = r"""
import ctypes, json, os, socket, sys
told = json.loads(sys.argv[1])
def another():  # a process with the host's number, in a numbering of its own
    try:
        return open(f"/proc/{told['pid']}/stat").read().rpartition(")")[2].split()[19] != told["start"]
    except OSError:
        return False
def read():
    open(told["canary"]).read()
def signal():
    os.kill(told["pid"], 0)
    if another():
        raise OSError
def trace():
    if another():
        raise OSError
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(0x4206, told["pid"], 0, 0) != 0:  # PTRACE_SEIZE, which does not stop the host
        raise OSError
def memory():
    if another():
        raise OSError
    open(f"/proc/{told['pid']}/mem", "rb").close()
def environ():
    if another():
        raise OSError
    open(f"/proc/{told['pid']}/environ", "rb").read(1)
def abstract():
    socket.socket(socket.AF_UNIX).connect("\0" + told["abstract"])
def tcp():
    socket.create_connection(("127.0.0.1", told["port"]), timeout=2)
def processes():
    open(f"/proc/{told['pid']}/cmdline").read()
    if another():
        raise OSError
def library():
    open(told["library"]).read()
worked = []
for attempt in (read, signal, trace, memory, environ, abstract, tcp, processes, library):
    try:
        attempt()
    except Exception:
        continue
    worked.append(attempt.__name__)
print(json.dumps(worked))
"""


@dataclass(frozen=True)
class Verdict:
    """What a probe found.

    Attributes:
        works: The tier may be used.
        reason: Why not, with what would help; empty if it works.
    """

    works: bool
    reason: str = ""


def choose(kind: str, policy: Policy) -> Sandbox:
    """Open a sandbox, see `open_sandbox`.

    Raises:
        SandboxError: The kind asked for does not work here, or for "auto" none does.
    """
    if kind == "process":
        from mlrcbench.sandbox.process import ProcessSandbox

        return ProcessSandbox(policy)
    if kind == "bubblewrap":
        from mlrcbench.sandbox.bubblewrap import BubblewrapSandbox

        return BubblewrapSandbox(policy)
    if kind == "container":
        from mlrcbench.sandbox.container import ContainerSandbox

        return ContainerSandbox(policy)
    reasons = []
    for tier in TIERS if kind == "auto" else (kind,):
        reason = verdict(tier).reason or _unsuitable(tier, policy) or _too_little(kind, tier)
        if not reason:
            return SupervisedSandbox(tier, policy)
        reasons.append(f"{tier}: {reason}")
    raise SandboxError(_refusal(kind, reasons))


@functools.cache
def verdict(tier: str) -> Verdict:
    """Whether a tier proves itself in this process."""
    if not sys.platform.startswith("linux"):
        return Verdict(False, f"sandboxes need Linux; this is {sys.platform!r}")
    try:
        worked = _attempt(tier)
    except SandboxError as error:
        return Verdict(False, f"{error}. {_FIXES[tier]}.")
    except OSError as error:
        return Verdict(False, f"the probe could not be set up: {error}")
    if worked:
        return Verdict(False, f"a probe inside could still do this: {', '.join(worked)}. {_FIXES[tier]}.")
    return Verdict(True)


def report() -> dict[str, dict[str, Any]]:
    """Each kind of sandbox: whether it works, why not, what it enforces and what not."""
    from mlrcbench.sandbox import bubblewrap, container

    found: dict[str, dict[str, Any]] = {}
    for tier in TIERS:
        one = verdict(tier)
        isolation = describe(tier)
        found[tier] = _entry(one.works, one.reason, isolation.enforced, isolation.missing)
    for name, module in (("bubblewrap", bubblewrap), ("container", container)):
        reason = module.unavailable()
        found[name] = _entry(not reason, reason, module.ISOLATION.enforced, module.ISOLATION.missing)
    none = describe("process")
    found["process"] = _entry(sys.platform.startswith("linux"), "", none.enforced, none.missing)
    return found


def _entry(works: bool, reason: str, enforced: tuple[str, ...], missing: tuple[str, ...]) -> dict[str, Any]:
    return {"works": works, "reason": reason, "enforced": list(enforced), "missing": list(missing)}


def _attempt(tier: str) -> list[str]:
    """Run the attempts inside; those that worked and should not have."""
    with _scene() as (policy, told), SupervisedSandbox(tier, policy) as sandbox:
        (policy.workspace / "attempt.py").write_text(_ATTEMPT)
        python = f"'{sys.executable}' -I -S attempt.py '{json.dumps(told)}'"
        result = sandbox.run(python, Limits(seconds=_SECONDS))
    text = (result.head + result.tail).decode(errors="replace")
    if result.exit_status != 0:
        raise SandboxError(
            f"the interpreter could not be run inside (status {result.exit_status}): {text.strip()}"
        )
    worked = json.loads(text.splitlines()[-1])
    return [name for name in worked if name not in _tolerated(tier)]


def _tolerated(tier: str) -> set[str]:
    """What a tier is known, and said, to leave open on this kernel."""
    if tier == "strong":
        return set()
    tolerated = {"processes"}
    if rules.abi() < 6:
        tolerated |= {"abstract"} if tier == "uid" else {"abstract", "signal"}
    return tolerated


@contextmanager
def _scene() -> Iterator[tuple[Policy, dict[str, object]]]:
    """A workspace, and beside it what must not be reached."""
    folder = Path(tempfile.mkdtemp(prefix="mlrcbench-probe-", dir=_probe_root()))
    try:
        folder.chmod(0o711)
        workspace = folder / "workspace"
        workspace.mkdir()
        canary = folder / "canary"
        canary.write_text("canary")
        with socket.socket(socket.AF_UNIX) as named, socket.socket(socket.AF_INET) as tcp:
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
                    "abstract": name,
                    "port": tcp.getsockname()[1],
                    "library": str(Path(visible.__file__)),
                },
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _probe_root() -> str:
    return "/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir()


def _unsuitable(tier: str, policy: Policy) -> str:
    """Why a tier that works in general does not for this policy."""
    if tier != "uid":
        return ""
    for path in (policy.workspace, *policy.readable):
        for folder in path.resolve().parents:
            if not folder.stat().st_mode & 0o001:
                return f"{path} lies below {folder}, which only root can pass (chmod a+x {folder})"
    for path in policy.readable:
        if not path.stat().st_mode & 0o004:
            return f"{path} cannot be read by users other than root (chmod -R a+rX {path})"
    return ""


def _too_little(kind: str, tier: str) -> str:
    """Why a tier that works is not chosen unasked."""
    if (kind, tier) == ("auto", "landlock") and os.geteuid() == 0:
        return (
            "as root, commands could change the modes and times of every file that root owns; "
            "run as an ordinary user, or ask for sandbox='landlock' to accept it"
        )
    return ""


def _refusal(kind: str, reasons: list[str]) -> str:
    what = "no sandbox works here" if kind == "auto" else f"the sandbox {kind!r} does not work here"
    lines = "\n".join(f"  {reason}" for reason in reasons)
    return (
        f"{what}, so commands are not run:\n{lines}\n"
        "sandbox='process' runs them with no confinement at all; choose it for trusted code only"
    )
