"""Attacks that read what only the library may read, by commands and in evaluations."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from mlrcbench.testing.attacks.attack import Attack, Outcome
from mlrcbench.testing.attacks.scene import Scene

EVALUATED = "-evaluated"
_GAINS = {
    "path": "opens the answers, the secret and the record by their paths",
    "other-programs": "lets cat, dd and tail open a private file",
    "listing": "lists the folders of private files",
    "symlink": "reaches private files through symbolic links in the workspace",
    "hardlink": "gives a private file a second name in the workspace",
    "rename": "moves a private file into the workspace",
    "file-handle": "opens a private file by its handle, without a path",
    "io-uring": "opens a private file by io_uring, past filters of system calls",
    "bind-mount": "mounts a private folder into the workspace",
    "raw-disk": "reads a private file's bytes from the disk",
    "proc-root": "reaches private files through another process's root folder",
    "proc-cwd": "reaches private files through another process's working folder",
    "proc-fd": "reads private files that another process has open",
    "proc-environ": "reads environment variables, API keys among them, of other processes",
    "proc-mem": "reads the memory of the library and other processes",
    "ptrace": "traces another process",
    "process-vm-readv": "copies another process's memory",
    "pidfd-getfd": "takes an open file out of another process",
    "setns": "enters another process's view of the file system",
    "inherited-descriptors": "reads files that were left open for it",
    "environment": "finds the host's environment variables in its own",
    "sysv-shared-memory": "attaches another process's System V shared memory",
    "posix-shared-memory": "opens another process's shared memory in /dev/shm",
    "tcp": "talks to a server on the host's loopback",
    "udp": "talks to a server on the host's loopback by datagrams",
    "abstract-socket": "talks to a server on an abstract unix socket",
    "path-socket": "talks to a server on a unix socket in the file system",
    "metadata": "sees when a private file was written",
    "inotify": "sees when the library opens a private file",
    "command-line": "sees the arguments another process was started with",
    "neighbour": "reads another episode's workspace and record",
}
ATTACKS = (
    *(Attack(name, "reading", gain) for name, gain in _GAINS.items()),
    *(Attack(name + EVALUATED, "reading while evaluated", gain) for name, gain in _GAINS.items()),
)


def run(scene: Scene, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    """Run the routes; an attack gains if its route found a treasure."""
    for suffix, carry_out in (("", scene.run), (EVALUATED, scene.evaluate)):
        batch = [attack for attack in attacks if attack.name.endswith(EVALUATED) == bool(suffix)]
        if not batch:
            continue
        scene.write_facts()
        started = time.monotonic()
        names = [attack.name.removesuffix(suffix) for attack in batch]
        reports = carry_out("reading", names)
        share = (time.monotonic() - started) / len(batch)
        scene.victim.restore()
        for attack, name in zip(batch, names, strict=True):
            got = scene.got(reports[name])
            yield Outcome(attack, bool(got), f"got {got}" if got else reports[name].message, share)
