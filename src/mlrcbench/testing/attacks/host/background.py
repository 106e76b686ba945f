"""Attacks by jobs, which may run during other steps but must end in time."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence

from mlrcbench.protocol.actions import Evaluate, KillJob, StartJob, Submit, WaitJob
from mlrcbench.testing.attacks.attack import Attack, Outcome
from mlrcbench.testing.attacks.host.outliving import alive
from mlrcbench.testing.attacks.scene import Scene, reports

_WAYS = ("setsid", "double-fork", "nohup", "subreaper", "stopped", "leaderless", "crowd")
_ENDS = {
    "job-after-kill": "continues after it was killed",
    "job-after-evaluation": "continues while and after the workspace is evaluated",
    "job-after-submission": "continues after the submission",
    "job-after-close": "continues after the environment is closed",
}
_READS, _WRITES = "job-reads-inputs", "job-writes-while-evaluated"
ATTACKS = (
    *(Attack(name, "jobs", gain) for name, gain in _ENDS.items()),
    Attack(_READS, "jobs", "reads the inputs of the test split while it is evaluated"),
    Attack(_WRITES, "jobs", "writes into the workspace while it is evaluated"),
)


def run(scene: Scene, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    """Run attacks one by one, as each ends the jobs of the earlier ones."""
    if not scene.env.runs_jobs:
        for attack in attacks:
            yield Outcome(attack, False, "not run: this sandbox runs no jobs", ran=False)
        return
    special = {_READS: _read, _WRITES: _write}
    for attack in attacks:
        started = time.monotonic()
        trouble = special.get(attack.name, _outlive)(scene, attack)
        evidence = trouble or "none of its processes is left, and it got nothing"
        yield Outcome(attack, bool(trouble), evidence, time.monotonic() - started)


def _start(scene: Scene, command: str, ready: str) -> int:
    """Start a job and wait until it prints a line; its id."""
    match = re.match(r"job (\d+) has started", scene.act(StartJob(command)))
    assert match is not None
    number = int(match[1])
    scene.act(WaitJob(number, "match", ready, max_seconds=30.0))
    return number


def _outlive(scene: Scene, attack: Attack) -> str:
    """Processes that try everything to survive, when their job is ended in one of the ways."""
    marks = {name: f"mark-{secrets.token_hex(12)}" for name in _WAYS}
    scene.write_facts(marks=marks)
    folder = scene.workspace
    number = _start(scene, f"python attack_runner.py outliving {' '.join(_WAYS)}; sleep 300", _WAYS[-1])
    ends: dict[str, Callable[[], object]] = {
        "job-after-kill": lambda: scene.act(KillJob(number)),
        "job-after-evaluation": lambda: scene.act(Evaluate()),
        "job-after-submission": lambda: scene.act(Submit()),
        "job-after-close": scene.env.close,
    }
    ends[attack.name]()
    survivors = {name: evidence for name, evidence in alive(marks, folder).items() if evidence}
    if attack.name in ("job-after-submission", "job-after-close"):
        scene.reset()
    return ", ".join(f"{name}: {evidence}" for name, evidence in survivors.items())


def _read(scene: Scene, attack: Attack) -> str:
    """A job that waits for inputs to appear."""
    scene.write_facts()
    number = _start(scene, f"python attack_runner.py background {attack.name}", "ATTACK-READY")
    scene.env.evaluate("test")
    text = scene.act(WaitJob(number, max_seconds=30.0))
    return scene.got(reports(text, [attack.name])[attack.name])


def _write(scene: Scene, _: Attack) -> str:
    """A job that never stops writing; the scored copy must equal the workspace afterwards."""
    mark = f"mark-{secrets.token_hex(12)}"
    _start(scene, f"python attack_background.py {mark}", "ATTACK-READY")
    scene.act(Evaluate())
    record = scene.env.record
    assert record is not None
    copy = max((record / "evaluations").iterdir()) / "workspace" / mark
    size = (scene.workspace / mark).stat().st_size
    return (
        ""
        if copy.stat().st_size == size
        else f"the file has {size} bytes, the copy that was scored has fewer"
    )
