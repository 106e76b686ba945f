"""Attacks by hostile artefacts in the places of declared ones."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlrcbench.catalog.scale import better
from mlrcbench.errors import SandboxError, ScoringError
from mlrcbench.score import Score
from mlrcbench.testing.attacks.attack import Attack, Outcome, brief
from mlrcbench.testing.attacks.scene import Scene

MEMORY_BYTES = 64 << 20
_GROUP = "forged artefacts"
_GAINS = {
    "copy-of-answers": "leaves a copy of the answers as its artefact",
    "symlink-to-answers": "has the answers judged against themselves, by a symbolic link",
    "hardlink-to-answers": "has the answers judged against themselves, by a hard link",
    "link-through-proc": "has the answers judged against themselves, through the library's own root folder",
    "linked-folder": "replaces artefacts/ by a link to a folder with a link to the answers",
    "folder-of-answers": "replaces artefacts/ by a link to the folder of the answers",
    "pipe": "hangs the evaluator on a pipe",
    "socket": "makes the evaluator fail on a socket",
    "device": "makes the evaluator read a device that never ends",
    "folder": "makes the evaluator fail on a folder",
    "sparse-file": "fills the host's disk or memory with a file of one terabyte",
    "pickle": "runs code in the scorer from a pickle",
    "array-of-pickles": "runs code in the scorer from an array of objects",
    "weights-with-pickle": "runs code in the scorer from a weights file",
    "lying-shape": "makes the scorer reserve terabytes for an array by its header",
    "negative-shape": "confuses the scorer with a negative shape",
    "code-in-header": "runs code from an array's header",
    "deep-header": "crashes the header's parser",
    "lying-weights": "makes the scorer reserve terabytes for weights by their header",
    "long-weights-header": "makes the scorer believe the header's length",
    "archive-bomb": "unpacks to a thousand times its size in the scorer",
    "compressed-bomb": "unpacks to a thousand times its size in the scorer",
    "deep-json": "crashes the JSON parser",
    "not-a-number": "wins by comparisons with NaN, which are false both ways",
    "infinite": "wins or crashes the scorer by infinity",
    "huge-number": "wins or crashes the scorer by overflow",
    "ten-thousand-files": "drowns the evaluator in files",
    "too-many-artefacts": "leaves more artefacts than are allowed",
    "own-score": "writes its score itself",
}
ATTACKS = tuple(Attack(name, _GROUP, gain) for name, gain in _GAINS.items())


def run(scene: Scene, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    """Leave each artefact in turn and have it evaluated."""
    scene.disarm()
    honest = scene.score()
    for attack in attacks:
        marker = scene.outside / scene.write_facts()["marker"]
        scene.arm("forging", [attack.name])
        before, started = reset_peak(), time.monotonic()
        score: Score | None = None
        try:
            score = scene.score()
            trouble = ""
        except (SandboxError, ScoringError) as error:
            trouble = f"the evaluator failed: {brief(error)}"
        seconds, grown = time.monotonic() - started, peak() - before
        trouble = trouble or _trouble(scene, score, honest, seconds, grown)
        if marker.exists():
            marker.rmdir()
            trouble = "its code ran outside the sandbox"
        evidence = trouble or (
            f"scored {score.value}" if score and score.valid else score.reason if score else ""
        )
        yield Outcome(attack, bool(trouble), evidence, seconds)
    scene.disarm()


def improved(scene: Scene, score: Score, honest: Score) -> bool:
    """Whether a score beats the untouched starter's."""
    if score.value is None or honest.value is None:
        return score.value is not None
    margin = 1e-9 * max(1.0, abs(honest.value))
    direction = scene.competition.card.metric.direction
    return better(score.value, honest.value, direction) and abs(score.value - honest.value) > margin


def peak() -> int:
    """Largest resident set of this process since the last `reset_peak`, in bytes."""
    return _status("VmHWM")


def reset_peak() -> int:
    """Start to watch this process's memory; returns its resident set, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def _trouble(scene: Scene, score: Score | None, honest: Score, seconds: float, grown: int) -> str:
    """What the attack gained, in words; empty if nothing."""
    limits = scene.competition.card.tier("mini").limits
    if score is not None and improved(scene, score, honest):
        return f"scored {score.value}, the starter {honest.value}"
    if seconds > limits.evaluation_seconds + limits.scoring_seconds:
        return f"the evaluation took {seconds:.0f} s"
    if grown > MEMORY_BYTES:
        return f"the library's memory grew by {grown >> 20} MiB"
    return ""
