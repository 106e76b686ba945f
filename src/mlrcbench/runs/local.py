"""Plays a plan's episodes on this machine, several at a time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from mlrcbench.agents.named import LlmOptions, check_ready
from mlrcbench.errors import RunError
from mlrcbench.registry import list_competitions
from mlrcbench.runs.plan import EPISODES, Assignment, Plan
from mlrcbench.runs.results import RESULT, Result, read_result, read_results

TRIES = 3
_POLL_SECONDS = 0.05
_END_SECONDS = 10.0


@dataclass(slots=True)
class _Worker:
    """One episode that is being played."""

    assignment: Assignment
    folder: Path
    process: subprocess.Popen[bytes]
    tries: int


def run(
    agents: Sequence[str],
    competitions: Sequence[str] | None = None,
    *,
    directory: str | Path,
    instances: int = 1,
    trials: int = 1,
    tier: str = "mini",
    sandbox: str = "auto",
    secret: str | None = None,
    budget: Mapping[str, float] | None = None,
    llm: Mapping[str, Any] | None = None,
    jobs: int = 1,
    on_result: Callable[[Result], None] | None = None,
    on_plan: Callable[[int, int], None] | None = None,
) -> list[Result]:
    """Play agents on competitions, or go on with a run that was stopped.

    Args:
        agents: Their names; see `mlrcbench.agents.named`.
        competitions: Their ids; all that are listed by default.
        directory: Of the run; made, or gone on with.
        instances: How many of each competition, from 0.
        trials: Episodes of each agent on each instance.
        tier: "mini" or "full".
        sandbox: See `open_sandbox`.
        secret: Of the instances; see `Competition.instance`. Only "public" is written down.
        budget: Parts of the card's budget to replace.
        llm: What language models share; see `LlmOptions`.
        jobs: Episodes at a time.
        on_result: Called with each new result.
        on_plan: Called once, with how many episodes there are and how many have a result already.

    Returns:
        The results of all episodes of the plan, old and new.

    Raises:
        RunError: The directory holds a run of another kind, or a name is wrong.
        EndpointError: A language model cannot be called: a key, a package or a price is missing.
        KeyboardInterrupt: Passed on, after every episode was ended; the run can be gone on with.
    """
    chosen = competitions or [card.id for card in list_competitions()]
    plan = Plan(
        tuple(agents),
        tuple(chosen),
        instances,
        trials,
        tier,
        sandbox,
        "public" if secret == "public" else None,
        dict(budget or {}),
        dict(llm or {}),
    )
    for name in agents:
        check_ready(name, LlmOptions.read(plan.llm))
    if jobs < 1:
        raise RunError(f"at least one episode at a time is played, not {jobs}")
    root = Path(directory).absolute()
    plan.write(root)
    wanted = list(plan)
    waiting = [one for one in wanted if not _is_done(root, one)]
    if on_plan is not None:
        on_plan(len(wanted), len(wanted) - len(waiting))
    with contextlib.closing(_play_all(root, plan, waiting, jobs, secret)) as played:
        for result in played:
            if on_result is not None:
                on_result(result)
    names = {one.name for one in wanted}
    return [result for result in read_results(root) if result.assignment.name in names]


def _play_all(
    root: Path, plan: Plan, waiting: list[Assignment], jobs: int, secret: str | None
) -> Generator[Result]:
    """Results as they come; whatever still runs is ended when this is closed."""
    queue = [(assignment, 1) for assignment in waiting]
    running: list[_Worker] = []
    try:
        while queue or running:
            while queue and len(running) < jobs:
                assignment, tries = queue.pop(0)
                running.append(_start(root, plan, assignment, tries, secret))
            ended = [worker for worker in running if worker.process.poll() is not None]
            for worker in ended:
                running.remove(worker)
                result = _result(worker)
                if result.outcome == "infrastructure failed" and worker.tries < TRIES:
                    queue.append((worker.assignment, worker.tries + 1))
                else:
                    yield result
            if not ended:
                time.sleep(_POLL_SECONDS)
    finally:
        for worker in running:
            _end(worker)


def _is_done(root: Path, assignment: Assignment) -> bool:
    """Infrastructure that failed earlier may work now."""
    result = read_result(root / EPISODES / assignment.name)
    return result is not None and result.outcome != "infrastructure failed"


def _start(root: Path, plan: Plan, assignment: Assignment, tries: int, secret: str | None) -> _Worker:
    folder = root / EPISODES / assignment.name
    folder.mkdir(exist_ok=True)
    (folder / RESULT).unlink(missing_ok=True)
    request = {
        "assignment": asdict(assignment),
        "folder": str(folder),
        "tier": plan.tier,
        "sandbox": plan.sandbox,
        "secret": secret,
        "budget": dict(plan.budget),
        "llm": dict(plan.llm),
    }
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlrcbench.runs.worker"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process, which ends them in order
        )
    pipe = _stdin(process)
    with contextlib.suppress(BrokenPipeError):
        pipe.write(json.dumps(request).encode() + b"\n")
        pipe.flush()
    return _Worker(assignment, folder, process, tries)


def _result(worker: _Worker) -> Result:
    """What a process that has ended left; if nothing, it was killed or crashed."""
    _stdin(worker.process).close()
    result = read_result(worker.folder)
    if result is not None:
        return result
    status = worker.process.returncode
    reason = f"the episode's process ended with status {status}; see {worker.folder / 'log.txt'}"
    return Result(worker.assignment, "infrastructure failed", reason, worker.folder)


def _end(worker: _Worker) -> None:
    """Closing its input ends it, and its supervisors; force is for one that does not listen."""
    _stdin(worker.process).close()
    try:
        worker.process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.wait()


def _stdin(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin
