"""Attacks that use up time, memory, disk, processes or patience."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlrcbench.actions import Evaluate, WriteFile
from mlrcbench.errors import SandboxError, ScoringError
from mlrcbench.testing.attack import Attack, Outcome, brief
from mlrcbench.testing.groups.forging import MEMORY_BYTES, peak, reset_peak
from mlrcbench.testing.scene import Scene

# Seconds that stopping, sweeping and removing may take on a busy machine; who runs on, runs for ever.
_OVERSHOOT = 15.0
# What can be written before a watchdog sees it; more than that must not pile up.
_BURST = 256 << 20
_BURSTS = 6
_DEEPEST = 60
# Of the copy of the card that these attacks run under, so that they cost little: see `Scene`.
LIMITS = {
    "memory_mb": 384.0,
    "workspace_mb": 32.0,
    "processes": 48.0,
    "command_seconds": 12.0,
    "evaluation_seconds": 5.0,
}
# Those that would go on for ever have less time.
_SECONDS = {"busy-loops": 2.0, "sleep": 1.0, "stop-all": 2.0, "fork-bomb": 3.0}
_GAINS = {
    "memory": "holds twice the memory that is allowed, in one process",
    "memory-together": "holds twice the memory that is allowed, in several processes",
    "memory-file": "holds twice the memory that is allowed, in files that exist in memory only",
    "memory-dev-shm": "holds twice the memory that is allowed, in /dev/shm",
    "temporary-files": "fills the disk by temporary files",
    "disk": "fills the disk by files in the workspace",
    "disk-in-bursts": "fills the disk by many commands, each of which is stopped too late",
    "deleted-file": "fills the disk by a file without a name",
    "small-files": "uses up the disk's number of files",
    "deep-tree": "breaks whoever walks a tree of folders 3,000 deep",
    "locked-tree": "breaks whoever removes folders without permissions and with odd names",
    "output": "fills the library's memory by a gigabyte of output",
    "output-one-line": "fills the library's memory by a line without an end",
    "busy-loops": "runs past its time by forty busy loops",
    "sleep": "runs past its time, deaf to all requests to end",
    "processes": "has twice the processes that are allowed",
    "fork-bomb": "uses up the machine's process numbers",
    "descriptors": "uses up the machine's open files",
    "core-dump": "leaves core dumps",
    "stop-all": "hangs its supervisor by stopped and traced processes",
}
_IN_EVALUATION = ("memory", "disk", "small-files", "deep-tree", "output", "sleep", "processes", "stop-all")
_EVALUATED = "-evaluated"
_CLEAN = "chmod -R u+rwX junk 2>/dev/null; rm -rf junk junk-* core*; echo cleaned"
ATTACKS = (
    *(Attack(name, "exhaustion", gain, contained=name == "fork-bomb") for name, gain in _GAINS.items()),
    *(
        Attack(name + _EVALUATED, "exhaustion", f"{_GAINS[name]}, in an evaluation")
        for name in _IN_EVALUATION
    ),
)


def run(scene: Scene, chosen: Sequence[Attack]) -> Iterator[Outcome]:
    """Run each on an environment with small limits, and see how that and the library fare."""
    small = Scene(scene.competition, scene.sandbox, scene.secret, _limits(scene))
    with small:
        for attack in chosen:
            yield _one(small, attack)
        folder = small.workspace.parent
    if chosen and folder.exists():
        gone = Attack("leftovers", "exhaustion", "leaves files on the disk when the environment is closed")
        yield Outcome(gone, True, f"{folder} still exists")


def _limits(scene: Scene) -> dict[str, float]:
    """Small limits, none above the card's own."""
    own = scene.competition.card.tier("mini").limits
    return {name: min(value, float(getattr(own, name))) for name, value in LIMITS.items()}


def _one(scene: Scene, attack: Attack) -> Outcome:
    limits = scene.competition.card.tier("mini").limits
    told = scene.tell(
        memory_mb=limits.memory_mb, workspace_mb=limits.workspace_mb, processes=limits.processes
    )
    name = attack.name.removesuffix(_EVALUATED)
    evaluated = name != attack.name
    seconds = limits.evaluation_seconds if evaluated else _SECONDS.get(name, limits.command_seconds)
    before, started = reset_peak(), time.monotonic()
    try:
        text = _carry_out(scene, name, seconds, evaluated=evaluated)
        trouble = ""
    except (SandboxError, ScoringError) as error:
        text, trouble = "", f"the sandbox failed: {brief(error)}"
    took, grown = time.monotonic() - started, peak() - before
    claims = [word for word in text.split('"') if word.startswith("claim:")]
    over = f"it took {took:.1f} s of {seconds:g} s" if took > seconds + _OVERSHOOT else ""
    big = f"the library's memory grew by {grown >> 20} MiB" if grown > MEMORY_BYTES else ""
    left = _left(told["marker"])
    size = blocks(scene.workspace) - (limits.workspace_mb << 20)
    full = f"the workspace is {size >> 20} MiB over its limit" if size > _BURST else ""
    trouble = trouble or ", ".join(claims) or over or big or full or left or _afterwards(scene)
    if trouble:
        scene.env.close()
        scene.reset()
    ending = next(
        (line for line in reversed(text.splitlines()) if line.startswith(("[exit", "[stop", "dev:"))), ""
    )
    return Outcome(attack, bool(trouble), trouble or f"{ending} after {took:.1f} s", took)


def _carry_out(scene: Scene, name: str, seconds: float, *, evaluated: bool) -> str:
    if name == "disk-in-bursts":
        for _ in range(_BURSTS):
            scene.command(f"exec python attack_exhausting.py {name}", seconds)
        return ""
    if not evaluated:
        return scene.command(f"exec python attack_exhausting.py {name}", seconds)
    code = f"import os\nfrom attack_exhausting import main\nmain({name!r})\nos._exit(0)\n"
    scene.act(WriteFile(scene.competition.card.method_file, code))
    text = scene.act(Evaluate())
    scene.disarm()
    return text


def blocks(folder: Path) -> int:
    """What a tree takes up on the disk, in bytes; as far as it can be walked."""
    total = 0
    for root, folders, files in os.walk(folder):
        if root.count("/") > _DEEPEST:
            folders.clear()
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(f"{root}/{name}").st_blocks * 512
    return total


def _afterwards(scene: Scene) -> str:
    """What is the matter with the environment after an attack; empty if nothing."""
    try:
        scene.command(_CLEAN, 60)
        if trouble := scene.usable():
            return trouble
        files = scene.workspace / "main.py"
        return "" if files.parent.is_dir() else "the workspace is gone"
    except (SandboxError, ScoringError) as error:
        return f"the environment cannot be used any more: {brief(error)}"


def _left(marker: str) -> str:
    """Where files with a marker are left outside of the workspace; they are removed."""
    found = []
    for folder in (Path("/dev/shm"), Path("/tmp"), Path("/var/tmp")):
        for path in folder.glob(f"{marker}*"):
            found.append(str(folder))
            os.unlink(path)
    return f"left files in {', '.join(sorted(set(found)))}" if found else ""
