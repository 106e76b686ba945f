"""Many environments in one process: one thread for each, which mostly waits for its sandbox.

Only a small helper of the sandboxes forks, and nothing is pickled, so the size of the trainer's process
does not matter. Autoreset is Gymnasium's next-step mode: after an episode has ended, the next action
for that environment is ignored, and its reset is returned with reward 0. That reset and the start of
the new sandbox happen ahead of time, while the caller thinks; instances can be built ahead of time, in
the background.

A step can have a deadline. An environment that misses it is truncated for that reason: its own thread
interrupts it and cleans up, while the batch continues.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array
from typing_extensions import override

from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.prepare import prepare
from mlrcbench.catalog.registry import get_competition
from mlrcbench.env.research_env import ResearchEnv
from mlrcbench.errors import RegistryError, SandboxError, nearest
from mlrcbench.sandbox.ownership import Owner

Reset = tuple[dict[str, Any], dict[str, Any]]
Step = tuple[dict[str, Any], float, bool, bool, dict[str, Any]]
Flags = npt.NDArray[np.bool_]

MODES = ("sync", "async", "threads")


class _Slot:
    """One place of the batch: an environment, what it is doing, and its last observation."""

    def __init__(self, make: Callable[[], ResearchEnv], submit: Callable[..., Future[Any]]) -> None:
        self._make = make
        self._submit = submit
        self.env = make()
        self.doing: Future[Any] | None = None
        self.last: dict[str, Any] = {}
        self._ahead = False

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Future[Reset]:
        """Begin a reset; a reset that was made ahead is used, unless a seed or options are given."""
        if self.doing is None or not self._ahead or seed is not None or options:
            self.doing = self._submit(_reset, self.env, self.doing, seed, options)
        self._ahead = False
        return self.doing

    def reset_ahead(self) -> None:
        """Begin the next reset ahead of time."""
        self.reset()
        self._ahead = True

    def step(self, action: Any) -> Future[Step]:
        """Begin a step."""
        self.doing = self._submit(self.env.step, action)
        return self.doing

    def abandon(self, reason: str) -> Future[Any]:
        """Replace the environment by a new one; the future ends when the old one is closed."""
        old, doing = self.env, self.doing
        self.env, self.doing = self._make(), None
        self.env.np_random = old.np_random  # it draws instances, and steps do not use it
        old.interrupt(reason)
        return self._submit(_close, old, doing)

    def close(self, reason: str) -> Future[Any]:
        """Interrupt what is running, and close the environment."""
        self.env.interrupt(reason)
        return self._submit(_close, self.env, self.doing)


class VectorEnv(gymnasium.vector.VectorEnv[dict[str, Any], Sequence[Any], npt.NDArray[Any]]):
    """A batch of environments of one competition, in threads of this process.

    Args:
        competition: The competition, or its id.
        num_envs: Number of environments.
        deadline: Seconds that a step may take; None to wait for the slowest environment.
        ahead: Number of processes that build the pool's instances in the background; 0 to build each
            instance when it is drawn.
        options: Options of `ResearchEnv`.

    Raises:
        RegistryError, CardError: See `ResearchEnv`.
    """

    def __init__(
        self,
        competition: str | Competition,
        num_envs: int,
        *,
        deadline: float | None = None,
        ahead: int = 0,
        **options: Any,
    ) -> None:
        self.closed = True  # until it is complete: Gymnasium closes a vector that could not be made, too
        if num_envs < 1 or (deadline is not None and deadline <= 0):
            raise RegistryError("a vector needs num_envs >= 1 and a deadline above 0, or None")
        subject = get_competition(competition) if isinstance(competition, str) else competition
        # Threads are started as needed; environments that missed a deadline use some for a while.
        self._executor = ThreadPoolExecutor(4 * num_envs + 4, "mlrcbench-env")

        def make() -> ResearchEnv:
            return ResearchEnv(subject, **options)

        self._slots = [_Slot(make, self._executor.submit) for _ in range(num_envs)]
        first = self._slots[0].env
        self.num_envs = num_envs
        self.deadline = deadline
        self.render_mode = first.render_mode
        self.metadata = {**first.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space = first.observation_space
        self.observation_space = batch_space(first.observation_space, num_envs)
        self.single_action_space = first.action_space
        self.action_space = batch_space(first.action_space, num_envs)
        self.spec = gymnasium.registry.get(subject.card.gymnasium_id)
        self._ended = np.ones(num_envs, np.bool_)
        self._started = np.zeros(num_envs, np.bool_)  # reset at least once
        self._owner = Owner()
        self._gone: list[Future[Any]] = []
        self._stop = threading.Event()
        if ahead:
            self._executor.submit(
                prepare,
                subject,
                first.pool,
                tier=first.tier.name,
                jobs=ahead,
                secret=options.get("secret"),
                stop=self._stop,
            )
        self.closed = False

    @property
    def envs(self) -> tuple[ResearchEnv, ...]:
        """The present environments; one that missed its deadline has been replaced."""
        return tuple(slot.env for slot in self._slots)

    @override
    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode in each environment.

        Args:
            seed: Environment `i` gets `seed + i`, or the `i`-th of a sequence.
            options: See `ResearchEnv.reset`; `"reset_mask"`, (num_envs,) bool, selects environments.

        Raises:
            ClosedEnvironmentError: The vector is closed.
            ResetNeeded: An environment that the mask leaves out has not been reset before.
            DataError, SandboxError: See `ResearchEnv.reset`.
        """
        self._check_usable()
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, np.bool_)), np.bool_)
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        seeds = [None] * self.num_envs if seeds is None else list(seeds)
        if len(seeds) != self.num_envs or mask.shape != (self.num_envs,):
            raise ValueError(f"there are {self.num_envs} environments: give as many seeds and mask entries")
        if not all(mask | self._started):
            raise gymnasium.error.ResetNeeded("reset all environments once before you reset some of them")
        numbers = [number for number in range(self.num_envs) if mask[number]]
        pending = {number: self._slots[number].reset(seeds[number], options) for number in numbers}
        results, error = self._results(pending)
        infos: dict[str, Any] = {}
        for number, (observation, info) in results.items():
            self._slots[number].last = observation
            self._ended[number], self._started[number] = False, True
            infos = self._add_info(infos, info, number)
        if error is not None:
            raise error
        return self._batch(), infos

    @override
    def step(
        self, actions: Sequence[Any]
    ) -> tuple[dict[str, Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], dict[str, Any]]:
        """Carry out one action in each environment, all at once.

        Args:
            actions: One for each environment; see `ResearchEnv.step`. An action for an environment whose
                episode has ended is ignored, and the environment is reset.

        Returns:
            Observations, rewards, terminated, truncated, infos, as Gymnasium batches them. An
            environment that missed the deadline keeps the numbers of its last observation, gets
            reward 0 and is truncated, with `"truncated_by"` "deadline" in its info; nothing of
            that step counts, and the episode is not scored on test.

        Raises:
            ClosedEnvironmentError: The vector is closed.
            ResetNeeded: `reset` has not been called.
            SandboxError, ScoringError: The infrastructure of an environment failed; the next step
                resets it, and the results of the other environments in this step are lost.
        """
        self._check_usable()
        if not all(self._started):
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        if len(actions) != self.num_envs:
            raise ValueError(f"{len(actions)} actions were given for {self.num_envs} environments")
        pending: dict[int, Future[Any]] = {}
        for number, (slot, action) in enumerate(zip(self._slots, actions, strict=True)):
            pending[number] = slot.reset() if self._ended[number] else slot.step(action)
        late = self._late({n: future for n, future in pending.items() if not self._ended[n]})
        results, error = self._results({n: future for n, future in pending.items() if n not in late})
        rewards = np.zeros(self.num_envs, np.float64)
        terminated, truncated = np.zeros(self.num_envs, np.bool_), np.zeros(self.num_envs, np.bool_)
        infos: dict[str, Any] = {}
        for number, result in sorted([*results.items(), *((n, self._abandon(n)) for n in late)]):
            observation, *rest, info = result
            if rest:  # a step, not a reset
                rewards[number], terminated[number], truncated[number] = rest
            self._slots[number].last = observation
            infos = self._add_info(infos, info, number)
        self._end(terminated | truncated, failed=set(pending) - set(results) - late)
        if error is not None:
            raise error
        return self._batch(), rewards, terminated, truncated, infos

    @override
    def render(self) -> tuple[Any, ...] | None:
        """The texts of the last observations, if `render_mode` is "ansi"."""
        return None if self.render_mode is None else tuple(slot.env.render() for slot in self._slots)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of each environment, or read an attribute, one environment after the other.

        An environment whose episode has ended may be in its next episode already.

        Args:
            name: Name of the method or attribute, for example "evaluate" or "record".
            args: Arguments of the method.
            kwargs: Further arguments of the method.

        Raises:
            AttributeError: The environments have no such attribute.
            ValueError: The vector has the method itself.
        """
        self._check_usable()
        if name in {"reset", "step", "close"}:
            raise ValueError(f"call {name}() of the vector instead")
        _settle(slot.doing for slot in self._slots)
        values = [env.get_wrapper_attr(name) for env in self.envs]
        return tuple(value(*args, **kwargs) if callable(value) else value for value in values)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of each environment, for example "record"; see `call`."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of each environment.

        Args:
            name: Name of the attribute.
            values: A list or tuple with a value for each environment, or one value for all of them.

        Raises:
            ValueError: The number of values is not that of the environments.
        """
        self._check_usable()
        own = list(values) if isinstance(values, list | tuple) else [values] * self.num_envs
        if len(own) != self.num_envs:
            raise ValueError(f"{len(own)} values were given for {self.num_envs} environments")
        _settle(slot.doing for slot in self._slots)
        for env, value in zip(self.envs, own, strict=True):
            env.set_wrapper_attr(name, value)

    @override
    def close_extras(self, **_: Any) -> None:
        """End all episodes and builds, and remove their processes and folders; records stay.

        In a forked copy of the process that made the vector, nothing is done.
        """
        if not self._owner.is_here:
            return
        self._stop.set()
        ends = [*self._gone, *(slot.close("closed") for slot in self._slots)]
        self._executor.shutdown()
        for end in ends:
            end.result()

    def _check_usable(self) -> None:
        """Raise if the vector is closed, or was made by another process."""
        if self.closed:
            raise gymnasium.error.ClosedEnvironmentError("this vector is closed; make another one")
        if not self._owner.is_here:
            raise SandboxError(
                "this vector belongs to the process that made it, and this process is a forked copy; "
                "make another vector here"
            )

    def _late(self, steps: dict[int, Future[Step]]) -> set[int]:
        """Numbers of the environments that missed the deadline."""
        _, late = wait(steps.values(), self.deadline)
        return {number for number, future in steps.items() if future in late}

    def _results(self, pending: dict[int, Future[Any]]) -> tuple[dict[int, Any], BaseException | None]:
        """Wait for calls; returns the results, and the error of one call that failed."""
        wait(pending.values())
        errors = {number: future.exception() for number, future in pending.items()}
        results = {number: future.result() for number, future in pending.items() if not errors[number]}
        for number, error in errors.items():
            if error is not None:
                error.add_note(f"this was environment {number} of {self.num_envs}")
                return results, error
        return results, None

    def _end(self, ended: Flags, failed: set[int]) -> None:
        """Store which episodes are over, and begin the resets that the next step will return."""
        self._ended = ended
        for number in failed:
            self._ended[number], self._slots[number].doing = True, None
        for number, slot in enumerate(self._slots):
            if self._ended[number] and number not in failed:
                slot.reset_ahead()

    def _abandon(self, number: int) -> Step:
        """Replace an environment that missed the deadline; returns the result of its step."""
        slot = self._slots[number]
        error = f"the step took longer than the deadline of {self.deadline:g} s, and the episode is over"
        self._gone = [future for future in self._gone if not future.done()]
        self._gone.append(slot.abandon("truncated: deadline"))
        terms = {"dev": 0.0, "test": 0.0}
        info = {"action": "", "error": error, "reward_terms": terms, "truncated_by": "deadline"}
        return {**slot.last, "text": f"error: {error}"}, 0.0, False, True, info

    def _batch(self) -> dict[str, Any]:
        """The last observations as one batch."""
        space = self.single_observation_space
        out: Any = create_empty_array(space, self.num_envs, fn=np.zeros)
        batch: Any = concatenate(space, [slot.last for slot in self._slots], out)
        return dict(batch)


def make_vec(
    competition: str, num_envs: int, *, vectorization_mode: str = "sync", **options: Any
) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """Many environments of one competition.

    Args:
        competition: Id of the competition.
        num_envs: Number of environments.
        vectorization_mode: "threads" for `VectorEnv`; "sync" or "async" for Gymnasium's vectors (from
            `gymnasium.make_vec`, without shared memory between processes, which is slower for texts).
        options: Options of `ResearchEnv`; with "threads", also those of `VectorEnv`.

    Raises:
        RegistryError: The competition or the mode does not exist.
    """
    subject = get_competition(competition)
    if vectorization_mode not in MODES:
        raise RegistryError(
            f"unknown vectorization mode {vectorization_mode!r}. {nearest(vectorization_mode, MODES)}"
        )
    if vectorization_mode == "threads":
        return VectorEnv(subject, num_envs, **options)
    vector = {"shared_memory": False} if vectorization_mode == "async" else {}
    return gymnasium.make_vec(
        subject.card.gymnasium_id, num_envs, vectorization_mode, vector_kwargs=vector, **options
    )


def _reset(
    env: ResearchEnv, before: Future[Any] | None, seed: int | None, options: dict[str, Any] | None
) -> Reset:
    """Reset an environment as soon as it is free, and start its sandbox."""
    _settle([before])
    result = env.reset(seed=seed, options=options)
    env.warm_up()
    return result


def _close(env: ResearchEnv, before: Future[Any] | None) -> None:
    """Close an environment as soon as it is free."""
    _settle([before])
    env.close()


def _settle(futures: Iterable[Future[Any] | None]) -> None:
    """Wait until calls are over, whether they succeeded or failed."""
    for future in futures:
        if future is not None:
            with contextlib.suppress(Exception):
                future.result()
