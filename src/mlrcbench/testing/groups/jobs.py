"""Attacks by jobs, which may run on while other steps are made, and must end when they have to."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence

from mlrcbench.actions import Evaluate, KillJob, StartJob, Submit, WaitJob
from mlrcbench.testing.attack import Attack, Outcome
from mlrcbench.testing.groups.outliving import alive
from mlrcbench.testing.scene import Scene, reports

_WAYS = ("setsid", "double-fork", "nohup", "subreaper", "stopped", "crowd")
_ENDS = {
    "job-after-kill": "goes on after it was killed",
    "job-after-evaluation": "goes on while and after the workspace is evaluated",
    "job-after-submission": "goes on after the submission",
    "job-after-close": "goes on after the environment is closed",
}
_READS, _WRITES = "job-reads-inputs", "job-writes-while-evaluated"
ATTACKS = (
    *(Attack(name, "jobs", gain) for name, gain in _ENDS.items()),
    Attack(_READS, "jobs", "reads the inputs of the test split while that is evaluated"),
    Attack(_WRITES, "jobs", "writes into the workspace while that is evaluated"),
)


def run(scene: Scene, chosen: Sequence[Attack]) -> Iterator[Outcome]:
    """One by one, as each ends the jobs of those before it."""
    if not scene.env.runs_jobs:
        for attack in chosen:
            yield Outcome(attack, False, "not run: this sandbox runs no jobs", ran=False)
        return
    special = {_READS: _read, _WRITES: _write}
    for attack in chosen:
        started = time.monotonic()
        trouble = special.get(attack.name, _outlive)(scene, attack)
        evidence = trouble or "no process of it is left, and nothing was got"
        yield Outcome(attack, bool(trouble), evidence, time.monotonic() - started)


def _start(scene: Scene, command: str, ready: str) -> int:
    """A job that has got as far as to print a line; its id."""
    found = re.match(r"job (\d+) has started", scene.act(StartJob(command)))
    assert found is not None
    number = int(found[1])
    scene.act(WaitJob(number, "match", ready, max_seconds=30.0))
    return number


def _outlive(scene: Scene, attack: Attack) -> str:
    """Processes that do everything to stay, when their job is ended in one of the ways."""
    marks = {name: f"mark-{secrets.token_hex(12)}" for name in _WAYS}
    scene.tell(marks=marks)
    folder = scene.workspace
    number = _start(scene, f"python attack_runner.py outliving {' '.join(_WAYS)}; sleep 300", _WAYS[-1])
    ends: dict[str, Callable[[], object]] = {
        "job-after-kill": lambda: scene.act(KillJob(number)),
        "job-after-evaluation": lambda: scene.act(Evaluate()),
        "job-after-submission": lambda: scene.act(Submit()),
        "job-after-close": scene.env.close,
    }
    ends[attack.name]()
    left = {name: words for name, words in alive(marks, folder).items() if words}
    if attack.name in ("job-after-submission", "job-after-close"):
        scene.reset()
    return ", ".join(f"{name}: {words}" for name, words in left.items())


def _read(scene: Scene, attack: Attack) -> str:
    """A job that waits for inputs to appear."""
    scene.tell()
    number = _start(scene, f"python attack_runner.py jobs {attack.name}", "ATTACK-READY")
    scene.env.evaluate("test")
    text = scene.act(WaitJob(number, max_seconds=30.0))
    return scene.got(reports(text, [attack.name])[attack.name])


def _write(scene: Scene, _: Attack) -> str:
    """A job that never stops writing; what was scored must be what is there afterwards."""
    mark = f"mark-{secrets.token_hex(12)}"
    _start(scene, f"python attack_jobs.py {mark}", "ATTACK-READY")
    scene.act(Evaluate())
    record = scene.env.record
    assert record is not None
    kept = max((record / "evaluations").iterdir()) / "workspace" / mark
    size = (scene.workspace / mark).stat().st_size
    return "" if kept.stat().st_size == size else f"the file has {size} bytes, the copy that was scored less"
