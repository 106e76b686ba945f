"""Plays a plan's episodes, several at a time, wherever an executor puts them."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlrcbench.agents.named import LlmOptions, check_ready
from mlrcbench.errors import RunError, nearest
from mlrcbench.registry import list_competitions
from mlrcbench.runs.cluster import RayExecutor
from mlrcbench.runs.local import Executor, LocalExecutor
from mlrcbench.runs.plan import EPISODES, Assignment, Plan
from mlrcbench.runs.process import request_for
from mlrcbench.runs.results import Result, read_result, read_results

TRIES = 3


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
    jobs: int | None = None,
    executor: str = "local",
    ray_address: str | None = None,
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
        jobs: Most episodes at a time; by default one, on a cluster as many as it has CPUs.
        executor: "local", processes on this machine, or "ray", tasks of a Ray cluster.
        ray_address: Of the cluster, as `ray.init` takes it; by default one is started here.
        on_result: Called with each new result.
        on_plan: Called once, with how many episodes there are and how many have a result already.

    Returns:
        The results of all episodes of the plan, old and new.

    Raises:
        RunError: The directory holds a run of another kind, a name is wrong, or there is no cluster.
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
    most = jobs if jobs is not None or executor == "ray" else 1
    if most is not None and most < 1:
        raise RunError(f"at least one episode at a time is played, not {jobs}")
    root = Path(directory).absolute()
    plan.write(root)
    wanted = list(plan)
    waiting = [one for one in wanted if not _is_done(root, one)]
    if on_plan is not None:
        on_plan(len(wanted), len(wanted) - len(waiting))
    requests = [request_for(root, plan, one, secret) for one in waiting]
    with contextlib.closing(_open(executor, ray_address)) as place:
        for result in _play_all(place, requests, most):
            if on_result is not None:
                on_result(result)
    names = {one.name for one in wanted}
    return [result for result in read_results(root) if result.assignment.name in names]


def _play_all(executor: Executor, requests: list[dict[str, Any]], most: int | None) -> Generator[Result]:
    """Results as they come; what the infrastructure failed is played again, at the end."""
    waiting = deque((request, 1) for request in requests)
    running: dict[Assignment, tuple[dict[str, Any], int]] = {}
    while waiting or running:
        while waiting and (most is None or len(running) < most):
            request, tries = waiting.popleft()
            executor.start(request)
            running[Assignment(**request["assignment"])] = request, tries
        for result in executor.finished():
            request, tries = running.pop(result.assignment)
            if result.outcome == "infrastructure failed" and tries < TRIES:
                waiting.append((request, tries + 1))
            else:
                yield result


def _open(name: str, ray_address: str | None) -> Executor:
    if name == "ray":
        return RayExecutor(ray_address)
    if name != "local":
        raise RunError(f"there is no executor {name!r}. {nearest(name, ['local', 'ray'])}")
    return LocalExecutor()


def _is_done(root: Path, assignment: Assignment) -> bool:
    """Infrastructure that failed earlier may work now."""
    result = read_result(root / EPISODES / assignment.name)
    return result is not None and result.outcome != "infrastructure failed"
