"""Many environments in one process: one thread for each, which mostly waits for its sandbox.

Nothing is forked but by the sandboxes' small helper, and nothing is pickled, so it does not
matter how large the trainer's process is. Autoreset is Gymnasium's next-step mode: after an
episode has ended, the next action for that environment is ignored, and its reset is returned
with reward 0. That reset, and the start of the new sandbox, are made ahead, while the caller
thinks; and instances can be built ahead, in the background.

A step has a deadline, if one is set. An environment that misses it is truncated for that
reason: it is interrupted and cleaned up by its own thread, while the batch goes on.
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

from mlrcbench.competition import Competition
from mlrcbench.env import ResearchEnv
from mlrcbench.errors import RegistryError, nearest
from mlrcbench.preparation import prepare
from mlrcbench.registry import get_competition

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
        """Begin a reset; one that was made ahead serves, if it need not be a certain one."""
        if self.doing is None or not self._ahead or seed is not None or options:
            self.doing = self._submit(_reset, self.env, self.doing, seed, options)
        self._ahead = False
        return self.doing

    def reset_ahead(self) -> None:
        """Begin the reset that will be asked for."""
        self.reset()
        self._ahead = True

    def step(self, action: Any) -> Future[Step]:
        """Begin a step."""
        self.doing = self._submit(self.env.step, action)
        return self.doing

    def abandon(self, reason: str) -> Future[Any]:
        """Leave what goes on to itself, and take another environment; when the old one is gone."""
        old, doing = self.env, self.doing
        self.env, self.doing = self._make(), None
        self.env.np_random = old.np_random  # which draws instances, and nothing in a step
        old.interrupt(reason)
        return self._submit(_close, old, doing)

    def close(self, reason: str) -> Future[Any]:
        """End what goes on, and the environment."""
        self.env.interrupt(reason)
        return self._submit(_close, self.env, self.doing)


class VectorEnv(gymnasium.vector.VectorEnv[dict[str, Any], Sequence[Any], npt.NDArray[Any]]):
    """A batch of environments of one competition, in threads of this process.

    Args:
        competition: Its id, or the object.
        num_envs: How many.
        deadline: Seconds that a step may take; None waits for the slowest.
        ahead: Processes that build the pool's instances in the background from now on; 0
            builds each when it is drawn.
        options: Those of `ResearchEnv`.

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
        if num_envs < 1 or (deadline is not None and deadline <= 0):
            raise RegistryError("a vector needs num_envs >= 1 and a deadline above 0, or None")
        found = get_competition(competition) if isinstance(competition, str) else competition
        # Threads come as they are needed; those that missed a deadline need some for a while.
        self._executor = ThreadPoolExecutor(4 * num_envs + 4, "mlrcbench-env")

        def make() -> ResearchEnv:
            return ResearchEnv(found, **options)

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
        self.spec = gymnasium.registry.get(found.card.gymnasium_id)
        self._ended = np.ones(num_envs, np.bool_)
        self._gone: list[Future[Any]] = []
        self._stop = threading.Event()
        if ahead:
            self._executor.submit(
                prepare,
                found,
                first.pool,
                tier=first.tier.name,
                jobs=ahead,
                secret=options.get("secret"),
                stop=self._stop,
            )

    @property
    def envs(self) -> tuple[ResearchEnv, ...]:
        """The environments, at this moment: one that missed its deadline is replaced."""
        return tuple(slot.env for slot in self._slots)

    @override
    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode in each environment.

        Args:
            seed: For environment `i`: `seed + i`, or the `i`-th of a sequence.
            options: See `ResearchEnv.reset`; `"reset_mask"`, (num_envs,) bool, picks environments.

        Raises:
            DataError, SandboxError: See `ResearchEnv.reset`.
        """
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, np.bool_)), np.bool_)
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        seeds = [None] * self.num_envs if seeds is None else list(seeds)
        if len(seeds) != self.num_envs or mask.shape != (self.num_envs,):
            raise ValueError(f"there are {self.num_envs} environments: give as many seeds and mask entries")
        chosen = [number for number in range(self.num_envs) if mask[number]]
        pending = {number: self._slots[number].reset(seeds[number], options) for number in chosen}
        results, error = self._results(pending)
        infos: dict[str, Any] = {}
        for number, (observation, info) in results.items():
            self._slots[number].last = observation
            self._ended[number] = False
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
            actions: One for each; see `ResearchEnv.step`. Those for environments whose episode
                has ended are ignored: they are reset.

        Returns:
            Observations, rewards, terminated, truncated, infos, as Gymnasium batches them. An
            environment that missed the deadline keeps the numbers of its last observation, gets
            reward 0 and is truncated, with `"truncated_by"` "deadline" in its info; nothing of
            that step counts, and the episode is not scored on test.

        Raises:
            SandboxError, ScoringError: The infrastructure of an environment failed; it is reset
                by the next step, and what the others did in this one is lost.
        """
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

    @override
    def close_extras(self, **_: Any) -> None:
        """End all episodes and builds, with their processes and folders; records stay."""
        self._stop.set()
        ends = [*self._gone, *(slot.close("closed") for slot in self._slots)]
        self._executor.shutdown()
        for end in ends:
            end.result()

    def _late(self, steps: dict[int, Future[Step]]) -> set[int]:
        """Environments that missed the deadline."""
        _, late = wait(steps.values(), self.deadline)
        return {number for number, future in steps.items() if future in late}

    def _results(self, pending: dict[int, Future[Any]]) -> tuple[dict[int, Any], BaseException | None]:
        """What came of some calls, when all are done, and the error of one that failed."""
        wait(pending.values())
        errors = {number: future.exception() for number, future in pending.items()}
        results = {number: future.result() for number, future in pending.items() if not errors[number]}
        for number, error in errors.items():
            if error is not None:
                error.add_note(f"this was environment {number} of {self.num_envs}")
                return results, error
        return results, None

    def _end(self, ended: Flags, failed: set[int]) -> None:
        """Note which episodes are over, and begin the resets that the next step will return."""
        self._ended = ended
        for number in failed:
            self._ended[number], self._slots[number].doing = True, None
        for number, slot in enumerate(self._slots):
            if self._ended[number] and number not in failed:
                slot.reset_ahead()

    def _abandon(self, number: int) -> Step:
        """Give an environment up that missed the deadline: what is told instead of its step."""
        slot = self._slots[number]
        why = f"the step took longer than the deadline of {self.deadline:g} s, and the episode is over"
        self._gone = [future for future in self._gone if not future.done()]
        self._gone.append(slot.abandon("truncated: deadline"))
        terms = {"dev": 0.0, "test": 0.0}
        info = {"action": "", "error": why, "reward_terms": terms, "truncated_by": "deadline"}
        return {**slot.last, "text": f"error: {why}"}, 0.0, False, True, info

    def _batch(self) -> dict[str, Any]:
        """The last observations as one."""
        space = self.single_observation_space
        out: Any = create_empty_array(space, self.num_envs, fn=np.zeros)
        batch: Any = concatenate(space, [slot.last for slot in self._slots], out)
        return dict(batch)


def make_vec(
    competition: str, num_envs: int, *, vectorization_mode: str = "sync", **options: Any
) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """Many environments of one competition.

    Args:
        competition: Its id.
        num_envs: How many.
        vectorization_mode: "threads" is `VectorEnv`. "sync" and "async" are Gymnasium's own
            (`gymnasium.make_vec`, with what text needs: no shared memory between processes).
        options: Those of `ResearchEnv`; with "threads", those of `VectorEnv` too.

    Raises:
        RegistryError: There is no such competition or mode.
    """
    found = get_competition(competition)
    if vectorization_mode not in MODES:
        raise RegistryError(
            f"there is no vectorization mode {vectorization_mode!r}. {nearest(vectorization_mode, MODES)}"
        )
    if vectorization_mode == "threads":
        return VectorEnv(found, num_envs, **options)
    vector = {"shared_memory": False} if vectorization_mode == "async" else {}
    return gymnasium.make_vec(
        found.card.gymnasium_id, num_envs, vectorization_mode, vector_kwargs=vector, **options
    )


def _reset(
    env: ResearchEnv, before: Future[Any] | None, seed: int | None, options: dict[str, Any] | None
) -> Reset:
    """Reset an environment when it is free, and start its sandbox."""
    _settle([before])
    result = env.reset(seed=seed, options=options)
    env.warm_up()
    return result


def _close(env: ResearchEnv, before: Future[Any] | None) -> None:
    """Close an environment when it is free."""
    _settle([before])
    env.close()


def _settle(futures: Iterable[Future[Any] | None]) -> None:
    """Wait until something is over, however it went."""
    for future in futures:
        if future is not None:
            with contextlib.suppress(Exception):
                future.result()
