"""Plays a plan's episodes with an executor, several at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mlrcbench.agents import Agent
from mlrcbench.agents.named import EXTERNAL, LlmOptions, check_ready, is_python
from mlrcbench.agents.python_object import Origin, distinct, name_of_object
from mlrcbench.catalog.registry import list_competitions
from mlrcbench.env.settings import Settings, names_settings
from mlrcbench.errors import RunError, cause, nearest
from mlrcbench.runs.episode_process import left_behind, request_for
from mlrcbench.runs.local import Executor, LocalExecutor
from mlrcbench.runs.plan import EPISODES, Assignment, Plan
from mlrcbench.runs.ray_cluster import RayExecutor
from mlrcbench.runs.results import (
    Result,
    begin_attempt,
    failed_result,
    is_broken_off,
    read_result,
    withdraw_attempt,
    write_result,
)
from mlrcbench.storage.trees import locked

_LOCK = "run.lock"
_log = logging.getLogger(__name__)


@names_settings
def run(
    agents: Sequence[str | Agent | type[Agent]],
    competitions: Sequence[str] | None = None,
    *,
    directory: str | Path,
    instances: int = 1,
    trials: int = 1,
    llm: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    executor: str = "local",
    ray_address: str | None = None,
    on_start: Callable[[Assignment], None] | None = None,
    on_result: Callable[[Result], None] | None = None,
    on_plan: Callable[[int, int], None] | None = None,
    **options: Any,
) -> list[Result]:
    """Play agents on competitions, or continue a run that was stopped.

    Args:
        agents: Names of agents, see `mlrcbench.agents.named`; or classes, which each episode calls without
            arguments, or instances, of which each episode gets a copy. A class must be importable by its
            name. An instance is called like its class, and after a "+" like its attribute `name`.
        competitions: Ids of competitions; by default all that are listed.
        directory: The run's directory: a new one, or that of a run to continue.
        instances: How many instances of each competition, from seed 0.
        trials: How many episodes each agent plays on each instance.
        llm: Options of all language models; see `LlmOptions`.
        jobs: How many episodes may run at a time; by default one, on a cluster as many as it has CPUs.
        executor: "local" (processes on this machine) or "ray" (tasks of a Ray cluster).
        ray_address: The cluster's address for `ray.init`; by default a cluster is started on this machine.
        on_start: Called when an episode begins, also when it is played again.
        on_result: Called with each new result.
        on_plan: Called once with the number of episodes and the number of those that have a result.
        options: Those of every episode: tier, sandbox, budget, secret, reward, clip, final; see
            `mlrcbench.env.settings.Settings`. Of the secrets only "public" is written to disk.

    Returns:
        The results of all episodes of the plan, old and new, ordered by name.

    Raises:
        RunError: The directory holds a run of another kind, cannot be written, or is used by another run
            now; a name is wrong; an object cannot be an agent; or the cluster is missing.
        EndpointError: A language model cannot be called: a key, a package or a price is missing.
        KeyboardInterrupt: Raised again after every episode was ended; the run can be continued.
    """
    names, pickles = _agents(agents)
    ids = _names("competitions", competitions) or [card.id for card in list_competitions()]
    settings = Settings.read(options)
    plan = Plan(tuple(names), tuple(ids), instances, trials, settings, dict(llm or {}))
    for name in names:
        if name not in pickles and not (executor == "ray" and name.startswith(EXTERNAL)):
            check_ready(name, LlmOptions.read(plan.llm))
    origins = {name: Origin.here(pickles.get(name)) for name in names if is_python(name)}
    limit = jobs if jobs is not None or executor == "ray" else 1
    if limit is not None and limit < 1:
        raise RunError(f"jobs is {jobs}; at least one episode must run at a time")
    if ray_address is not None and executor != "ray":
        raise RunError(f"the address of a Ray cluster has no effect with the executor {executor!r}")
    root = Path(directory).absolute()
    with _locked(root):
        plan.write(root)
        results = {one: _result_so_far(root / EPISODES / one.name, one) for one in plan}
        waiting = [one for one, result in results.items() if not _is_done(one, result)]
        if on_plan is not None:
            on_plan(len(results), len(results) - len(waiting))
        requests = [request_for(root, plan, one, origins.get(one.agent)) for one in waiting]
        with contextlib.closing(_open(executor, ray_address)) as player, _withdrawn_if_stopped(requests):
            for result in _play_all(player, requests, limit, on_start):
                results[result.assignment] = result
                if on_result is not None:
                    on_result(result)
    return sorted(filter(None, results.values()), key=lambda result: result.assignment.name)


def _names(what: str, names: Sequence[str] | None) -> list[str]:
    """A list of names, which must be a list of strings.

    Raises:
        RunError: It is one string, or holds something else.
    """
    if isinstance(names, str):
        raise RunError(f"{what} is one text; give a list of names, for example [{names!r}]")
    for name in names or ():
        if not isinstance(name, str):
            raise RunError(f"{what} must be names, not {type(name).__name__}")
    return list(dict.fromkeys(names or ()))


def _agents(agents: Any) -> tuple[list[str], dict[str, str]]:
    """The names of agents, and the pickles of those that are instances, by name.

    Raises:
        RunError: They are not a list, or one cannot be an agent.
    """
    if isinstance(agents, str) or not isinstance(agents, Iterable):
        raise RunError(f"agents is one agent; give a list, for example [{agents!r}]")
    pairs = [(one, None) if isinstance(one, str) else name_of_object(one) for one in agents]
    pickles = distinct(pairs)
    return list(dict.fromkeys(name for name, _ in pairs)), pickles


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the directory of a run, so that no other run plays its episodes; the lock ends with the process.

    Raises:
        RunError: Another process holds it, or it cannot be written.
    """
    lock = root / _LOCK

    def refuse() -> NoReturn:
        raise RunError(
            f"another run uses {root} at this moment; wait until it has ended, or name another directory"
        )

    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.touch(mode=0o644)
    except OSError as error:
        raise RunError(
            f"the directory {root} of the run cannot be written: {error.strerror}; name another one"
        ) from None
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(lock, refuse))
        except OSError as error:  # a file system without locks
            _log.warning("%s cannot be locked (%s); start no second run in it", root, error.strerror)
        yield


def _result_so_far(folder: Path, assignment: Assignment) -> Result | None:
    """The result in an episode's folder; that of an attempt whose run was killed is written now.

    Raises:
        RunError: It cannot be written.
    """
    if not is_broken_off(folder):
        return read_result(folder)
    try:
        write_result(failed_result(assignment, folder, "the run was killed while the episode was played"))
    except OSError as error:
        raise RunError(f"the result in {folder} cannot be written: {cause(error)}") from None
    return read_result(folder)


@contextlib.contextmanager
def _withdrawn_if_stopped(requests: list[dict[str, Any]]) -> Iterator[None]:
    """Let attempts that are being played when the operator stops the run count as if they had not begun."""
    try:
        yield
    except KeyboardInterrupt:
        for request in requests:
            with contextlib.suppress(OSError):  # it counts as broken off
                withdraw_attempt(Path(request["folder"]))
        raise


def _play_all(
    executor: Executor,
    requests: list[dict[str, Any]],
    limit: int | None,
    on_start: Callable[[Assignment], None] | None,
) -> Generator[Result]:
    """Results as they come; an episode whose infrastructure failed is played again once, at the end."""
    waiting: deque[tuple[dict[str, Any], Result | None]] = deque((request, None) for request in requests)
    running: dict[Assignment, tuple[dict[str, Any], Result | None]] = {}
    while waiting or running:
        ended: list[Result] = []
        while waiting and (limit is None or len(running) < limit):
            request, first = waiting.popleft()
            assignment = Assignment(**request["assignment"])
            running[assignment] = request, first
            if on_start is not None:
                on_start(assignment)
            try:
                begin_attempt(Path(request["folder"]))
                executor.start(request)
            except OSError as error:
                ended.append(left_behind(request, f"the episode cannot be started: {cause(error)}"))
        for result in ended or executor.finished():
            request, first = running.pop(result.assignment)
            if first is None and not result.is_final:
                waiting.append((request, result))
            elif first is not None and first.limit is not None and not result.attempts:
                yield dataclasses.replace(result, attempts=(first,))  # the disk was full
            else:
                yield result


def _is_done(assignment: Assignment, result: Result | None) -> bool:
    return result is not None and result.assignment == assignment and result.is_final


def _open(name: str, ray_address: str | None) -> Executor:
    if name == "ray":
        return RayExecutor(ray_address)
    if name != "local":
        raise RunError(f"the executor {name!r} does not exist. {nearest(name, ['local', 'ray'])}")
    return LocalExecutor()
