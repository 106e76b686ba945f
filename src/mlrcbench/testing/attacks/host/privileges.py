"""Attacks that gain rights with which a sandbox could be undone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from mlrcbench.testing.attacks.attack import Attack, Outcome
from mlrcbench.testing.attacks.scene import Scene

_GAINS = {
    "user-namespace": "becomes root of a user namespace, and can mount",
    "mount": "mounts a file system",
    "unmount": "removes the mounts that hide files",
    "chroot": "leaves a changed root folder",
    "user-0": "becomes root",
    "capabilities": "has a capability",
    "new-privileges": "can gain rights by starting set-user-id programs",
    "keyring": "keeps data in the kernel from one command to a later one",
    "bpf": "loads a program into the kernel",
    "perf-event": "watches other processes' counters",
    "kernel-module": "loads a kernel module",
    "packet-socket": "listens to the machine's network",
    "own-limits": "raises its own limits",
    "limits-of-others": "sets other processes' limits",
    "affinity-of-others": "chooses where other processes run",
    "priority-of-others": "lowers other processes' priority",
    "priority-of-the-user": "lowers the priority of all processes of its user",
    "core-pattern": "has the host run the attacker's program when a process crashes",
    "kernel-settings": "changes the machine's settings",
    "sysrq": "restarts or halts the machine",
    "control-group": "moves out of the limits of its control group",
}
ATTACKS = tuple(Attack(name, "privileges", gain) for name, gain in _GAINS.items())


def run(scene: Scene, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    """Run the routes; an attack gains if its route got a treasure or claims what it could do."""
    scene.write_facts()
    started = time.monotonic()
    reports = scene.run("privileges", [attack.name for attack in attacks])
    share = (time.monotonic() - started) / len(attacks)
    for attack in attacks:
        report = reports[attack.name]
        claims = [find for find in report.finds if find.startswith("claim:")]
        got = scene.got(report) or ", ".join(claims)
        yield Outcome(attack, bool(got), got or report.message, share)
