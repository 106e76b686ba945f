"""Attacks that reach out of the sandbox: over the network and sockets, and by signals."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlrcbench.testing.attacks.attack import Attack, Outcome
from mlrcbench.testing.attacks.scene import RouteReport, Scene
from mlrcbench.testing.attacks.victim import descendants

_NETWORK = {
    "send-tcp": "sends what it knows to a server over TCP",
    "send-udp": "sends what it knows by datagrams",
    "send-tcp6": "sends what it knows over TCP, version 6",
    "send-abstract": "sends what it knows over an abstract unix socket",
    "send-path": "sends what it knows over a unix socket in the file system",
    "send-path-datagram": "sends what it knows by datagrams to a unix socket in the file system",
    "resolve-a-name": "asks a name server, which carries data both ways",
    "netlink": "sees the host's network",
    "virtual-socket": "talks to the host of a virtual machine",
}
_SIGNALS = {
    "kill": "kills a trusted process",
    "terminate": "ends a trusted process",
    "stop": "stops a trusted process",
    "kill-group": "kills a trusted process's group",
    "kill-by-descriptor": "kills a trusted process by a process descriptor",
    "kill-thread": "kills a trusted process by its thread",
    "kill-by-owner": "has the kernel kill a trusted process",
    "signal-library": "signals the library or a helper of it",
    "kill-all": "kills every process that it may signal",
}
ATTACKS = (
    *(Attack(name, "network", gain) for name, gain in _NETWORK.items()),
    *(Attack(name, "signals", gain) for name, gain in _SIGNALS.items()),
)


def run(scene: Scene, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    """Send all messages at once, and signals one by one, as each may end its target."""
    yield from _send(scene, [attack for attack in attacks if attack.group == "network"])
    harmed = False
    for attack in (attack for attack in attacks if attack.group == "signals"):
        if attack.name == "kill-all" and (harmed or scene.tier == "none"):
            yield Outcome(attack, False, "not run: it would end every process of this machine", ran=False)
            continue
        outcome = _signal(scene, attack)
        harmed = harmed or outcome.gained
        yield outcome


def _send(scene: Scene, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    if not attacks:
        return
    messages = {attack.name: f"message-{secrets.token_hex(8)}" for attack in attacks}
    scene.write_facts(messages=messages)
    started = time.monotonic()
    reports = scene.run("sending", list(messages))
    received = scene.victim.received
    share = (time.monotonic() - started) / len(attacks)
    for attack in attacks:
        claims = _claims(reports[attack.name])
        arrived = messages[attack.name] in received
        evidence = "the server received it" if arrived else claims or reports[attack.name].message
        yield Outcome(attack, arrived or bool(claims), evidence, share)


def _signal(scene: Scene, attack: Attack) -> Outcome:
    started = time.monotonic()
    helpers = [pid for pid in descendants(os.getpid()) if pid != scene.victim.pid and not _confined(pid)]
    trusted = [os.getpid(), *helpers]
    scene.write_facts(trusted_pids=trusted, started={str(pid): _start(pid) for pid in trusted})
    report = scene.run("sending", [attack.name])[attack.name]
    time.sleep(0.05)
    harmed = "" if scene.victim.alive else "the trusted process is dead or stopped"
    gained = harmed or _claims(report)
    scene.victim.restore()
    trouble = scene.usable()
    if trouble:
        scene.reset()
    evidence = gained or trouble or report.message
    return Outcome(attack, bool(gained or trouble), evidence, time.monotonic() - started)


def _claims(report: RouteReport) -> str:
    return ", ".join(find for find in report.finds if find.startswith("claim:"))


def _confined(pid: int) -> bool:
    """Whether a process is the agent's, or about to become so: only those have a filter on system calls."""
    with contextlib.suppress(OSError):
        return "Seccomp:\t2" in Path(f"/proc/{pid}/status").read_text()
    return True


def _start(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty if the process has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""
