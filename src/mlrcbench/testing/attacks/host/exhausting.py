"""Attacks that use up time, memory, disk, processes or open files."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlrcbench.errors import SandboxError, ScoringError
from mlrcbench.protocol.actions import Evaluate, WriteFile
from mlrcbench.testing.attacks.attack import Attack, Outcome, brief
from mlrcbench.testing.attacks.host.forging import MEMORY_BYTES, peak, reset_peak
from mlrcbench.testing.attacks.scene import Scene

# Seconds that stopping, sweeping and removing may take on a busy machine; an attack that is not stopped
# runs for ever.
_OVERSHOOT = 15.0
# Bytes that can be written before a watchdog sees it; more must not accumulate.
_BURST = 256 << 20
_BURSTS = 6
_DEEPEST = 60
# The limits under which these attacks run, so that they cost little: see `Scene`.
LIMITS = {
    "memory_mb": 384.0,
    "workspace_mb": 32.0,
    "processes": 48.0,
    "command_seconds": 12.0,
    "evaluation_seconds": 5.0,
}
# Attacks that would never end have less time.
_SECONDS = {"busy-loops": 2.0, "sleep": 1.0, "stop-all": 2.0, "fork-bomb": 3.0}
_GAINS = {
    "memory": "holds twice the memory that is allowed, in one process",
    "memory-together": "holds twice the memory that is allowed, in several processes",
    "memory-file": "holds twice the memory that is allowed, in files that exist in memory only",
    "memory-dev-shm": "holds twice the memory that is allowed, in /dev/shm",
    "temporary-files": "fills the disk with temporary files",
    "disk": "fills the disk with files in the workspace",
    "disk-in-bursts": "fills the disk in many commands, each of which is stopped too late",
    "deleted-file": "fills the disk with a file without a name",
    "small-files": "uses up the number of files that the disk can hold",
    "deep-tree": "breaks code that walks a tree of folders 3,000 deep",
    "locked-tree": "breaks code that removes folders without permissions and with odd names",
    "output": "fills the library's memory with a gigabyte of output",
    "output-one-line": "fills the library's memory with an endless line",
    "busy-loops": "runs past its time limit in forty busy loops",
    "sleep": "runs past its time limit and ignores all requests to end",
    "processes": "has twice the processes that are allowed",
    "fork-bomb": "uses up the machine's process numbers",
    "descriptors": "uses up the machine's open files",
    "core-dump": "leaves core dumps",
    "stop-all": "hangs its supervisor with stopped and traced processes",
}
_HOARDS = {
    "memory-untouched": "holds twice the memory that is allowed, which is in no page table",
    "memory-of-children": "holds twice the memory that is allowed, written by processes that have ended",
    "memory-unmapped": "holds twice the memory that is allowed, of which hardly anything is mapped",
    "memory-leaderless": "holds twice the memory that is allowed, in processes whose main threads have ended",
    "socket-buffers": "holds twice the memory that is allowed, in the buffers of sockets",
    "page-tables": "has the kernel need twice the memory that is allowed for page tables",
    "mapped-files": "fills the disk with files that have no name and are only mapped",
    "leaderless-files": "fills the disk with nameless files of a process whose main thread has ended",
    "files-in-flight": "fills the disk with nameless files in messages that nobody has received",
    "empty-files": "keeps its supervisor busy with two million empty files",
    "branching-tree": "breaks code that walks a tree with two folders on each of 3,000 levels",
}
_IN_EVALUATION = (
    "memory", "disk", "small-files", "deep-tree", "output", "sleep", "processes", "stop-all",
    "memory-untouched", "mapped-files", "empty-files", "branching-tree",
)  # fmt: skip
_EVALUATED = "-evaluated"
_CLEAN = "chmod -R u+rwX junk 2>/dev/null; rm -rf junk junk-* core*; echo cleaned"
ATTACKS = (
    *(Attack(name, "exhaustion", gain, contained=name == "fork-bomb") for name, gain in _GAINS.items()),
    *(Attack(name, "exhaustion", gain) for name, gain in _HOARDS.items()),
    *(
        Attack(name + _EVALUATED, "exhaustion", f"{(_GAINS | _HOARDS)[name]}, in an evaluation")
        for name in _IN_EVALUATION
    ),
)


def run(scene: Scene, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    """Run each attack in an environment with small limits, and check that environment and the library."""
    small = Scene(scene.competition, scene.sandbox, scene.secret, _limits(scene))
    with small:
        for attack in attacks:
            yield _one(small, attack)
        folder = small.workspace.parent
    if attacks and folder.exists():
        leftovers = Attack(
            "leftovers", "exhaustion", "leaves files on the disk when the environment is closed"
        )
        yield Outcome(leftovers, True, f"{folder} still exists")


def _limits(scene: Scene) -> dict[str, float]:
    """Small limits, none above the card's own."""
    own = scene.competition.card.tier("mini").limits
    return {name: min(value, float(getattr(own, name))) for name, value in LIMITS.items()}


def _one(scene: Scene, attack: Attack) -> Outcome:
    limits = scene.competition.card.tier("mini").limits
    facts = scene.write_facts(
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
    claims = [part for part in text.split('"') if part.startswith("claim:")]
    late = f"it took {took:.1f} s of {seconds:g} s" if took > seconds + _OVERSHOOT else ""
    large = f"the library's memory grew by {grown >> 20} MiB" if grown > MEMORY_BYTES else ""
    files = _left_files(facts["marker"])
    size = blocks(scene.workspace) - (limits.workspace_mb << 20)
    full = f"the workspace is {size >> 20} MiB over its limit" if size > _BURST else ""
    trouble = trouble or ", ".join(claims) or late or large or full or files or _afterwards(scene)
    if trouble:
        scene.env.close()
        scene.reset()
    ending = next(
        (line for line in reversed(text.splitlines()) if line.startswith(("[exit", "[stop", "dev:"))), ""
    )
    return Outcome(attack, bool(trouble), trouble or f"{ending} after {took:.1f} s", took)


def _carry_out(scene: Scene, name: str, seconds: float, *, evaluated: bool) -> str:
    module = "hoarding" if name in _HOARDS else "exhausting"
    if name == "disk-in-bursts":
        for _ in range(_BURSTS):
            scene.command(f"exec python attack_{module}.py {name}", seconds)
        return ""
    if not evaluated:
        return scene.command(f"exec python attack_{module}.py {name}", seconds)
    code = f"import os\nfrom attack_{module} import main\nmain({name!r})\nos._exit(0)\n"
    scene.act(WriteFile(scene.competition.card.method_file, code))
    text = scene.act(Evaluate())
    scene.disarm()
    return text


def blocks(folder: Path) -> int:
    """Bytes on the disk that a tree takes up, as far as it can be walked."""
    total = 0
    for root, folders, files in os.walk(folder):
        if root.count("/") > _DEEPEST:
            folders.clear()
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(f"{root}/{name}").st_blocks * 512
    return total


def _afterwards(scene: Scene) -> str:
    """What is wrong with the environment after an attack; empty if nothing."""
    try:
        scene.command(_CLEAN, 60)
        if trouble := scene.usable():
            return trouble
        return "" if scene.workspace.is_dir() else "the workspace is gone"
    except (SandboxError, ScoringError) as error:
        return f"the environment cannot be used any more: {brief(error)}"


def _left_files(marker: str) -> str:
    """Where files with a marker are left outside the workspace; they are removed."""
    folders = []
    for folder in (Path("/dev/shm"), Path("/tmp"), Path("/var/tmp")):
        for path in folder.glob(f"{marker}*"):
            folders.append(str(folder))
            os.unlink(path)
    return f"left files in {', '.join(sorted(set(folders)))}" if folders else ""
