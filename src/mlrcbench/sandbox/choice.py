"""The kinds of sandbox, one row each, and the choice among them."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlrcbench.errors import DataError, RegistryError, SandboxError, nearest
from mlrcbench.sandbox import bubblewrap, container, probe, readable
from mlrcbench.sandbox.contract import Isolation, Policy, Sandbox
from mlrcbench.sandbox.folders import MOVE_HOME, MOVE_RECORDS, MOVE_TEMPORARY, home, temporary
from mlrcbench.sandbox.isolation import describe
from mlrcbench.sandbox.process import ProcessSandbox
from mlrcbench.sandbox.supervised import SupervisedSandbox


@dataclass(frozen=True, slots=True)
class Backend:
    """One kind of sandbox.

    Attributes:
        open: Makes a sandbox for a policy, or raises a `SandboxError`.
        unavailable: Says why this kind does not work on this machine; empty if it does.
        isolation: Says what this kind enforces and what it does not.
        unsuitable: Says, before a sandbox is opened, why this kind cannot serve a policy; empty
            if it can.
        shows_system: Whether it hides everything from commands but `readable.view()`. The other kinds
            hide nothing, or show nothing of this machine's system.
    """

    open: Callable[[Policy], Sandbox]
    unavailable: Callable[[], str]
    isolation: Callable[[], Isolation]
    unsuitable: Callable[[Policy], str] = lambda _: ""
    shows_system: bool = False


def _probed(tier: str) -> Backend:
    """The row of a tier of the supervised sandbox, which a probe must have tried before it is used."""
    return Backend(
        open=functools.partial(SupervisedSandbox, tier),
        unavailable=lambda: probe.probe_tier(tier).reason,
        isolation=lambda: describe(tier),
        unsuitable=lambda policy: probe.probe_tier(tier).reason or _unreachable(tier, policy),
        shows_system=True,
    )


BACKENDS: Mapping[str, Backend] = {
    **{tier: _probed(tier) for tier in probe.TIERS},
    "bubblewrap": Backend(
        bubblewrap.BubblewrapSandbox,
        bubblewrap.unavailable,
        lambda: bubblewrap.ISOLATION,
        shows_system=True,
    ),
    "container": Backend(container.ContainerSandbox, container.unavailable, lambda: container.ISOLATION),
    "process": Backend(
        ProcessSandbox,
        lambda: "" if sys.platform.startswith("linux") else f"it needs Linux; this is {sys.platform!r}",
        lambda: describe("process"),
    ),
}
KINDS = ("auto", *BACKENDS)


def open_sandbox(kind: str, policy: Policy) -> Sandbox:
    """A sandbox of one kind for one workspace.

    "auto" is the strongest tier that a probe has shown to work on this machine. It never falls
    back to "process", which confines nothing and must be asked for by name.

    Args:
        kind: One of `KINDS`.
        policy: The resources that its commands may use.

    Raises:
        RegistryError: No kind has this name.
        SandboxError: The kind does not work on this machine, or would show a folder of this library to
            commands; the text says what would help.
    """
    if kind not in KINDS:
        raise RegistryError(f"no sandbox is named {kind!r}. {nearest(kind, KINDS)}")
    if kind == "auto" or BACKENDS[kind].shows_system:
        _refuse_exposed(policy)
    reasons = []
    for name in probe.TIERS if kind == "auto" else (kind,):
        backend = BACKENDS[name]
        reason = backend.unsuitable(policy) or _only_on_request(kind, name)
        if not reason:
            return backend.open(policy)
        reasons.append(f"{name}: {reason}")
    raise SandboxError(_refusal(kind, reasons))


def isolation_report() -> dict[str, dict[str, Any]]:
    """For each kind of sandbox, whether it works here or why not, and what it enforces."""
    report: dict[str, dict[str, Any]] = {}
    for name, backend in BACKENDS.items():
        reason, isolation = backend.unavailable(), backend.isolation()
        report[name] = {
            "works": not reason,
            "reason": reason,
            "enforced": list(isolation.enforced),
            "missing": list(isolation.missing),
        }
    return report


def _refuse_exposed(policy: Policy) -> None:
    """Raise if commands could read a private folder because of where it lies.

    The workspace and the folders that a policy shows count as private, because of what lies beside them:
    other workspaces, and answers.
    """
    folders = [(path, MOVE_RECORDS) for path in policy.hidden]
    folders += [(path, MOVE_HOME) for path in policy.readable]
    folders.append((policy.workspace, MOVE_TEMPORARY))
    with contextlib.suppress(DataError):  # without a home, there is nothing in it
        folders.append((home(), MOVE_HOME))
    folders.append((temporary(), MOVE_TEMPORARY))
    for path, advice in reversed(folders):
        if sentence := readable.exposure(path, advice):
            raise SandboxError(sentence)


def _unreachable(tier: str, policy: Policy) -> str:
    """Why the user of the uid tier could not reach the policy's folders; empty if it could."""
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


def _only_on_request(kind: str, name: str) -> str:
    """Why "auto" does not choose a tier that works; empty if it may."""
    if (kind, name) == ("auto", "landlock") and os.geteuid() == 0:
        return (
            "as root, commands could change the modes and times of every file that root owns; "
            "run as an ordinary user, or ask for sandbox='landlock' to accept it"
        )
    return ""


def _refusal(kind: str, reasons: list[str]) -> str:
    summary = "no sandbox works here" if kind == "auto" else f"the sandbox {kind!r} does not work here"
    lines = "\n".join(f"  {reason}" for reason in reasons)
    return (
        f"{summary}, so commands are not run:\n{lines}\n"
        "sandbox='process' runs them without any confinement; use it for trusted code only"
    )
