"""ResearchEnv: a competition as a Gymnasium environment.

The environment draws the instance of an episode, passes actions to the episode, pays the reward and
says when the episode is over. It follows Gymnasium's contract exactly.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NoReturn, SupportsIndex

import gymnasium
from gymnasium.error import ResetNeeded
from typing_extensions import override

from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.instances import Instance
from mlrcbench.catalog.registry import get_competition
from mlrcbench.catalog.scale import largest_improvement
from mlrcbench.env.episode import Episode, observation_of
from mlrcbench.env.infos import first_info, step_info
from mlrcbench.env.keeper import EpisodeKeeper
from mlrcbench.env.pool import chosen_instance, read_pool
from mlrcbench.env.resume import fitting_instance
from mlrcbench.env.reward import Reward
from mlrcbench.env.settings import Settings, names_settings
from mlrcbench.errors import DataError, RegistryError, SnapshotError, WorkspaceError, nearest, shown
from mlrcbench.protocol import spaces
from mlrcbench.protocol.meter import Meter
from mlrcbench.protocol.observation import Observation
from mlrcbench.protocol.tools import ToolCalls
from mlrcbench.sandbox import Isolation
from mlrcbench.sandbox.folders import home, resolved
from mlrcbench.score import SPLITS, Score, Split
from mlrcbench.storage.snapshots.snapshot import Snapshot
from mlrcbench.storage.snapshots.state import RandomState
from mlrcbench.storage.workspace import Workspace


class ResearchEnv(ToolCalls, gymnasium.Env[dict[str, Any], Any]):
    """A competition as an environment.

    Args:
        competition: The competition, or its id.
        instances: The pool that `reset` draws from: the number of seeds, counted from 0, or the seeds.
        records: Folder for the episodes' records; by default below `mlrcbench.home()`.
        render_mode: None, or "ansi" for the text of the last observation.
        options: Options of an episode: tier, sandbox, budget, secret, reward, clip, final; see `Settings`.

    Raises:
        RegistryError: A name or an option is not valid.
        CardError: The budget is not valid.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 (as Gymnasium declares it)

    @names_settings
    def __init__(
        self,
        competition: str | Competition,
        *,
        instances: int | Iterable[int] = 1,
        records: str | Path | None = None,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        self.competition = (
            competition if isinstance(competition, Competition) else get_competition(str(competition))
        )
        self.settings = Settings.read(options)
        self.tier = self.competition.card.tier(self.settings.tier)
        self.budget = self.settings.budget_of(self.tier)
        self.pool = read_pool(instances)
        if render_mode not in (None, "ansi"):
            raise RegistryError(f"unknown render mode {render_mode!r}. Known: ansi.")
        self.render_mode = render_mode
        best_possible = largest_improvement(self.competition.card.metric, self.tier.anchors["dev"])
        self.observation_space = spaces.observation_space(self.budget, best_possible)
        self.action_space = spaces.action_space()
        self._reward = Reward(self.settings.reward, self.settings.clip)
        if not isinstance(records, str | Path | None):
            raise RegistryError(f"records must be the path of a folder, not {shown(records)}")
        folder = resolved(records or home() / "records" / self.competition.id)
        self._keeper = EpisodeKeeper(self.competition, self.settings, folder)
        self.observation: Observation | None = None  # the last observation, in its parts

    def __repr__(self) -> str:
        episode = self._keeper.episode
        where = "no episode"
        if episode is not None:
            where = f"instance {episode.instance.seed}, step {episode.state.steps} of {self.budget.steps}"
        return f"<ResearchEnv {self.competition.id}, {self.tier.name}: {where}>"

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Seed for drawing an instance from the pool.
            options: `{"instance": k}` chooses the instance of seed `k` instead.

        Returns:
            The first observation (statement, files, limits, actions), and the info: the competition,
            the instance, the isolation.

        Raises:
            RegistryError: The options are not valid.
            DataError: The instance cannot be built or read, or the record cannot be written.
            SandboxError: The sandbox does not work on this machine, or the machine failed.
        """
        with self._keeper.boundary(RegistryError, DataError, gymnasium.error.Error):
            super().reset(seed=seed)
            chosen = chosen_instance(options)
            instance = self._instance(self._draw() if chosen is None else chosen)
            self._keeper.end("reset")
            episode = self._keeper.begin(instance, seed)
            info = first_info(episode)
            self.observation = episode.begin(copy.deepcopy(info))
            return self.observation.to_space(), info

    @override
    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Carry out one action.

        Args:
            action: An action, its JSON form, or the text of that form; for anything else, the
                observation says what was wrong.

        Returns:
            Observation, reward, terminated (submitted), truncated (budget spent), and info. The info
            has the keys `"action"`, `"error"` and `"reward_terms"`, and if there is such a value
            `"score"` (on dev), `"test_score"`, `"truncated_by"`. Nothing in it depends on the clock.

        Raises:
            ResetNeeded: No episode is running.
            SandboxError, ScoringError, SnapshotError: The infrastructure failed; the episode is over.
        """
        with self._keeper.boundary(ResetNeeded):
            return self._step(self._keeper.require(), action)

    def _step(
        self, episode: Episode, action: Any
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Carry out one action, without the boundary."""
        started, best_before = time.monotonic(), episode.state.best_improvement
        result = episode.take(action)
        conclusion = episode.judge(result)
        terms = self._reward.terms(best_before, episode.state.best_improvement, conclusion.score)
        info = step_info(result, terms, conclusion)
        self.observation = episode.record_step(
            action,
            result,
            conclusion,
            reward_terms=terms,
            info=copy.deepcopy(info),
            seconds=time.monotonic() - started,
        )
        if conclusion.ending is not None:
            self._keeper.end(conclusion.ending)
        terminated, truncated = conclusion.terminated, conclusion.truncated_by is not None
        return self.observation.to_space(), float(sum(terms.values())), terminated, truncated, info

    def snapshot(self) -> Snapshot:
        """The state of the episode: files, budget, scores, random state, record.

        The episode continues as if nothing had happened. Running jobs are not part of a snapshot.

        Raises:
            ResetNeeded: No episode is running.
            WorkspaceError: The workspace exceeds its limits, or cannot be read or stored.
            SnapshotError: `np_random` is not as Gymnasium makes it.
            SandboxError: The infrastructure failed; the episode is over.
        """
        with self._keeper.boundary(ResetNeeded, WorkspaceError, SnapshotError):
            episode = self._keeper.require()
            store = self._keeper.store()
            random = RandomState.of(self.np_random, self.np_random_seed)
            with store.lock:
                files = episode.capture(store)
                state = episode.state.copy(seconds=episode.meter.seconds, random=random)
                snapshot = Snapshot(state, files, store)
                store.hold(snapshot)
            return snapshot

    def restore(self, snapshot: Snapshot) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return to a snapshot: of this episode, of another episode, or loaded from a file.

        A running episode ends, with all its processes. The new episode has a new record, which begins
        with the steps up to the snapshot. Only files that differ are written.

        Args:
            snapshot: A snapshot of the same competition, version and tier, under the same rules.

        Returns:
            The observation and the info that were returned last before the snapshot.

        Raises:
            SnapshotError: The snapshot does not fit this environment, or its files are missing.
            DataError: The instance cannot be built.
            SandboxError: The infrastructure failed; the episode is over.
        """
        with self._keeper.boundary(SnapshotError, DataError):
            if not isinstance(snapshot, Snapshot):
                raise SnapshotError("restore takes a snapshot; load_snapshot reads one from a file")
            instance = fitting_instance(snapshot, self.competition, self.settings)
            start = snapshot.bring(self._keeper.store())
            with self._keeper.boundary():  # from here on, a failure ends the episode
                self._keeper.go_to(instance, start)
            return self._show(start)

    def fork(self, count: int = 1) -> list[ResearchEnv]:
        """Create environments that continue from the present state, each independently.

        A fork lays out its files and begins its record when it is first used; until then it shares
        everything, and leaves nothing if it is closed.

        Args:
            count: Number of forks.

        Returns:
            Environments in the state of this one; the caller closes each.

        Raises:
            ResetNeeded, WorkspaceError, SnapshotError, SandboxError: As for `snapshot`.
        """
        start = self.snapshot()
        return [self._child(start) for _ in range(count)]

    def evaluate(self, split: Split = "dev") -> Score:
        """Score the present workspace for the host program; it does not count as the agent's evaluation.

        Args:
            split: "dev" or "test".

        Raises:
            ResetNeeded: No episode is running.
            RegistryError: The split does not exist.
            SandboxError, ScoringError: The infrastructure failed; the episode is over.
        """
        with self._keeper.boundary(ResetNeeded, RegistryError):
            if split not in SPLITS:
                raise RegistryError(f"the split {split!r} does not exist. {nearest(str(split), SPLITS)}")
            return self._keeper.require().evaluate_for_host(split)

    @override
    def render(self) -> str | None:
        """The text of the last observation, if `render_mode` is "ansi"."""
        if self.render_mode is None or self.observation is None:
            return None
        return self.observation.text

    @property
    def runs_jobs(self) -> bool:
        """Whether the episode's sandbox can run jobs; False if no episode is running."""
        pending, episode = self._keeper.pending, self._keeper.episode
        if pending is not None:
            return pending.runs_jobs
        return episode is not None and episode.workbench.sandbox.runs_jobs

    @property
    def isolation(self) -> Isolation | None:
        """What the episode's sandbox enforces and does not enforce; None if no episode is running."""
        pending, episode = self._keeper.pending, self._keeper.episode
        if pending is not None:
            return pending.isolation
        return None if episode is None else episode.workbench.sandbox.isolation

    @property
    def record(self) -> Path | None:
        """Folder of the last episode's record; None before the first."""
        return self._keeper.record

    @property
    def workspace(self) -> Workspace:
        """The files that the agent works on.

        Raises:
            ResetNeeded: No episode is running.
        """
        with self._keeper.boundary(ResetNeeded):
            return self._keeper.require().workspace

    def warm_up(self) -> None:
        """Start the episode's sandbox now, and not only with its first command.

        Raises:
            ResetNeeded: No episode is running.
            SandboxError: The sandbox cannot be set up.
        """
        with self._keeper.boundary(ResetNeeded):
            self._keeper.require().workbench.sandbox.start()

    def interrupt(self, reason: str) -> None:
        """Let a step or a reset that runs in another thread fail soon, with a `SandboxError`.

        The episode is then over, and the environment can only be closed. This is for host programs that
        cannot wait, and the only method that may be called while another one runs.

        Args:
            reason: The ending that is written to the record.
        """
        self._keeper.interrupt(reason)

    @override
    def close(self) -> None:
        """End the episode and its processes, and remove its folder; records stay."""
        self._keeper.close()

    @override
    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("an environment cannot be copied or pickled; env.fork() continues from its state")

    @override
    def __exit__(self, *error: object) -> Literal[False]:
        self.close()
        return False

    def _child(self, start: Snapshot) -> ResearchEnv:
        """A fork, whose episode begins at its first use."""
        child = object.__new__(type(self))
        child.__dict__.update(self.__dict__)
        child.action_space = spaces.action_space()  # a new one, with its own random state
        child._keeper = self._keeper.fork(start)
        child._show(start)
        return child

    def _show(self, start: Snapshot) -> tuple[dict[str, Any], dict[str, Any]]:
        """Restore the last observation, the last info and the random state of a snapshot."""
        state = start.state
        assert state.random is not None
        self._np_random, self._np_random_seed = state.random.generator(), state.random.seed
        self.observation = observation_of(state, Meter(self.budget, spending=state.copy()))
        return self.observation.to_space(), copy.deepcopy(dict(state.info))

    def _draw(self) -> int:
        """The seed of an instance of the pool."""
        return self.pool[int(self.np_random.integers(len(self.pool)))]

    def _instance(self, seed: int) -> Instance:
        """The instance of a seed, which is built if it is missing."""
        return self.competition.instance(
            seed, self.tier.name, secret=self.settings.secret, on_progress=self._keeper.check_interruption
        )


@names_settings
def make(
    competition: str | Competition,
    *,
    instances: int | Iterable[int] = 1,
    records: str | Path | None = None,
    render_mode: str | None = None,
    **options: Any,
) -> ResearchEnv:
    """Make an environment, for example `make("llm-merging", budget={"steps": 10})`; see `ResearchEnv`.

    Raises:
        RegistryError: The competition or an option is not valid; the message says what is.
    """
    return ResearchEnv(competition, instances=instances, records=records, render_mode=render_mode, **options)
