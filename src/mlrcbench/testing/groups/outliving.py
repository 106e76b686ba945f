"""Attacks by processes that outlive their command, their evaluation, or the episode."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlrcbench.actions import Evaluate, Submit
from mlrcbench.testing.attack import Attack, Outcome
from mlrcbench.testing.scene import Scene

_SECONDS = 15.0
_GAINS = {
    "setsid": "a process in a session of its own",
    "double-fork": "a process whose parent is gone",
    "nohup": "a process that is deaf to requests to end",
    "held-output": "a process that holds the output open, for which the step waits",
    "subreaper": "a process below one that adopts orphans",
    "stopped": "a process that is stopped",
    "crowd": "a crowd of processes whose parent dies",
    "fork-chain": "a chain of processes that changes its number all the time",
    "swap": "a process that swaps artefacts while they are judged",
}
_WHEN = {"": "its command", "-evaluated": "an evaluation", "-submitted": "the episode"}
ATTACKS = tuple(
    Attack(name + when, "outliving", f"goes on after {of} by {gain}", contained=name == "fork-chain")
    for when, of in _WHEN.items()
    for name, gain in _GAINS.items()
    if name != "swap" or when == "-evaluated"
)


def run(scene: Scene, chosen: Sequence[Attack]) -> Iterator[Outcome]:
    """Start all of one time at once, and look for them when it is over."""
    for when in _WHEN:
        attacks = [one for one in chosen if _when(one) == when]
        if attacks:
            yield from _together(scene, attacks, when)


def _when(attack: Attack) -> str:
    return next((when for when in ("-evaluated", "-submitted") if attack.name.endswith(when)), "")


def _together(scene: Scene, chosen: Sequence[Attack], when: str) -> Iterator[Outcome]:
    names = [attack.name.removesuffix(when) for attack in chosen]
    marks = {name: f"mark-{secrets.token_hex(12)}" for name in names}
    scene.tell(marks=marks)
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
    still = alive(marks, folder)
    if when == "-submitted":
        scene.reset()
    for attack, name in zip(chosen, names, strict=True):
        trouble = still[name] or (slow if name == "held-output" else "")
        yield Outcome(attack, bool(trouble), trouble or "no process of it is left", took / len(chosen))


def alive(marks: dict[str, str], folder: Path) -> dict[str, str]:
    """By what it is known that a process with a name's mark still runs; empty if none does."""
    found = dict.fromkeys(marks, "")
    before = {name: _size(folder / mark) for name, mark in marks.items()}
    for entry in Path("/proc").iterdir():
        for part in ("cmdline", "environ") if entry.name.isdigit() else ():
            with contextlib.suppress(OSError):
                text = (entry / part).read_bytes()
                found |= {
                    name: f"process {entry.name} runs"
                    for name, mark in marks.items()
                    if mark.encode() in text
                }
    time.sleep(0.3)
    for name, mark in marks.items():
        if _size(folder / mark) != before[name]:
            found[name] = found[name] or "its heartbeat goes on"
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
