"""Attacks by processes that outlive their command, their evaluation, or the episode."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlrcbench.protocol.actions import Evaluate, Submit
from mlrcbench.testing.attacks.attack import Attack, Outcome
from mlrcbench.testing.attacks.scene import Scene

_SECONDS = 15.0
_GAINS = {
    "setsid": "a process in its own session",
    "double-fork": "a process whose parent is gone",
    "nohup": "a process that ignores requests to end",
    "held-output": "a process that holds the output open, for which the step waits",
    "subreaper": "a process below one that adopts orphans",
    "stopped": "a process that is stopped",
    "leaderless": "a process whose main thread has ended",
    "crowd": "a crowd of processes whose parent dies",
    "fork-chain": "a chain of processes that changes its number all the time",
    "swap": "a process that swaps artefacts while they are judged",
}
_WHEN = {"": "its command", "-evaluated": "an evaluation", "-submitted": "the episode"}
ATTACKS = tuple(
    Attack(name + when, "outliving", f"continues after {end} by {gain}", contained=name == "fork-chain")
    for when, end in _WHEN.items()
    for name, gain in _GAINS.items()
    if name != "swap" or when == "-evaluated"
)


def run(scene: Scene, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    """Start all processes that try to outlive the same thing, and look for them when it is over."""
    for when in _WHEN:
        batch = [attack for attack in attacks if _when(attack) == when]
        if batch:
            yield from _together(scene, batch, when)


def _when(attack: Attack) -> str:
    return next((when for when in ("-evaluated", "-submitted") if attack.name.endswith(when)), "")


def _together(scene: Scene, attacks: Sequence[Attack], when: str) -> Iterator[Outcome]:
    names = [attack.name.removesuffix(when) for attack in attacks]
    marks = {name: f"mark-{secrets.token_hex(12)}" for name in names}
    scene.write_facts(marks=marks)
    folder = scene.workspace
    started = time.monotonic()
    if when == "-evaluated":
        scene.arm("outliving", names)
        scene.act(Evaluate())
        scene.disarm()
    else:
        scene.command(f"python attack_runner.py outliving {' '.join(names)}", 30)
    took = time.monotonic() - started
    if when == "-submitted":
        scene.env.step(Submit())
    slow = f"the step took {took:.0f} s" if took > _SECONDS + 2 * len(names) else ""
    survivors = alive(marks, folder)
    if when == "-submitted":
        scene.reset()
    for attack, name in zip(attacks, names, strict=True):
        trouble = survivors[name] or (slow if name == "held-output" else "")
        yield Outcome(attack, bool(trouble), trouble or "none of its processes is left", took / len(attacks))


def alive(marks: dict[str, str], folder: Path) -> dict[str, str]:
    """For each name, the evidence that a process with its mark still runs; empty if none does."""
    evidence = dict.fromkeys(marks, "")
    before = {name: _size(folder / mark) for name, mark in marks.items()}
    for entry in Path("/proc").iterdir():
        for part in ("cmdline", "environ") if entry.name.isdigit() else ():
            with contextlib.suppress(OSError):
                text = (entry / part).read_bytes()
                evidence |= {
                    name: f"process {entry.name} runs"
                    for name, mark in marks.items()
                    if mark.encode() in text
                }
    time.sleep(0.3)
    for name, mark in marks.items():
        if _size(folder / mark) != before[name]:
            evidence[name] = evidence[name] or "its heartbeat continues"
    return evidence


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
