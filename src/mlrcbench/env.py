"""ResearchEnv: a competition as a Gymnasium environment.

The loop over episodes: it draws the instance, hands actions on, pays the reward and says when
an episode is over. The contract is Gymnasium's, to the letter.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import gymnasium
from typing_extensions import override

from mlrcbench import actions, branching, spaces
from mlrcbench.budget import Budget
from mlrcbench.competition import Competition, Instance, home
from mlrcbench.episode import Episode, Final, Result, Settings
from mlrcbench.errors import FAILURES, ActionError, RegistryError, SandboxError, nearest
from mlrcbench.metrics import largest_improvement
from mlrcbench.observation import Observation
from mlrcbench.record import Recorder, new_directory, recordable
from mlrcbench.registry import get_competition
from mlrcbench.reward import Reward, Scheme
from mlrcbench.score import Score, Split
from mlrcbench.scratch import PrivateFolder
from mlrcbench.snapshot import Snapshot
from mlrcbench.store import Store
from mlrcbench.tools import ToolCalls


class ResearchEnv(ToolCalls, gymnasium.Env[dict[str, Any], Any]):
    """A competition as an environment.

    Args:
        competition: Its id, or the object.
        tier: "mini" (generated, CPU) or "full" (the real data).
        sandbox: "auto", or one of `mlrcbench.sandbox.KINDS`.
        reward: "sparse" or "shaped"; see `Reward`.
        clip: Bounds on improvements in the reward, or None.
        instances: The pool that `reset` draws from: how many, from 0, or their seeds.
        budget: Parts of the card's budget to replace, for example `{"steps": 10}`.
        final: "best": the best snapshot on dev is scored on test; "last": the last state.
        secret: Of the instances; see `Competition.instance`.
        records: Folder for the episodes' records; by default below `mlrcbench.home()`.
        render_mode: None or "ansi", the text of the last observation.

    Raises:
        RegistryError: A name leads nowhere.
        CardError: The budget is none.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 (as Gymnasium declares it)

    def __init__(
        self,
        competition: str | Competition,
        *,
        tier: str = "mini",
        sandbox: str = "auto",
        reward: Scheme = "sparse",
        clip: tuple[float, float] | None = None,
        instances: int | Iterable[int] = 1,
        budget: Budget | Mapping[str, float] | None = None,
        final: Final = "best",
        secret: str | None = None,
        records: str | Path | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.competition = get_competition(competition) if isinstance(competition, str) else competition
        if final not in ("best", "last"):
            raise RegistryError(f"final cannot be {final!r}. {nearest(final, ('best', 'last'))}")
        if render_mode not in (None, "ansi"):
            raise RegistryError(f"there is no render mode {render_mode!r}. Known: ansi.")
        self.tier = self.competition.card.tier(tier)
        self.settings = Settings(tier, sandbox, self.tier.budget.override(budget), final, reward, clip)
        self.pool = tuple(range(instances)) if isinstance(instances, int) else tuple(instances)
        if not self.pool:
            raise RegistryError("the pool of instances is empty; instances=1 is the smallest")
        self.render_mode = render_mode
        most = largest_improvement(self.competition.card.metric, self.tier.anchors["dev"])
        self.observation_space = spaces.observation_space(self.settings.budget, most)
        self.action_space = spaces.action_space()
        self._reward = Reward(reward, clip)
        self._secret = secret
        self._records = Path(records or home() / "records" / self.competition.id).absolute()
        self._folder = PrivateFolder("episode")
        self._episode: Episode | None = None
        self._observation: Observation | None = None
        self._info: dict[str, Any] = {}
        self._store: Store | None = None
        self._waiting: tuple[Snapshot, Instance, float] | None = None
        self._interruption = ""
        self.record: Path | None = None  # directory of the last episode's record

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Seeds the draw from the pool of instances.
            options: `{"instance": k}` picks the instance of seed `k` instead.

        Returns:
            The first observation (statement, files, actions) and info: the competition, the
            instance, the isolation.

        Raises:
            DataError: The instance cannot be built.
            SandboxError: The sandbox cannot work here.
        """
        super().reset(seed=seed)
        instance = self.competition.instance(
            self._pick(options or {}), self.tier.name, secret=self._secret, on_progress=self._go_on
        )
        self._end_episode("reset")
        episode = self._begin(instance, seed)
        self._observation = episode.observe(episode.briefing)
        info = branching.first_info(episode)
        self._info = copy.deepcopy(info)
        return self._observation.to_space(), info

    @override
    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Carry out one action.

        Args:
            action: An action, its JSON form, or that form's text; anything else is answered
                with an observation that says what was wrong.

        Returns:
            Observation, reward, terminated (submitted), truncated (budget spent), and info:
            `"action"`, `"error"`, `"reward_terms"`, where there is one `"score"` (dev),
            `"test_score"`, `"truncated_by"`. Nothing in it depends on the clock.

        Raises:
            ResetNeeded: There is no episode, or it is over.
            SandboxError, ScoringError, SnapshotError: The infrastructure failed; the episode is over.
        """
        episode = self._require_episode()
        started, best = time.monotonic(), episode.best
        episode.meter.steps += 1
        try:
            name, result, error = self._perform(episode, action)
            terminated = name == "submit" and not error
            spent = None if terminated else episode.meter.spent
            final = episode.finish() if terminated or spent else None
        except FAILURES as failure:
            self._end_episode(self._interruption or f"failed: {failure}")
            raise
        terms = {"dev": self._reward.potential(episode.best) - self._reward.potential(best), "test": 0.0}
        info: dict[str, Any] = {"action": name, "error": error, "reward_terms": terms}
        if result.score is not None:
            info["score"] = result.score.summary()
        if final is not None:
            terms["test"] = self._reward.final(final, episode.best)
            info["test_score"] = final.summary()
        if spent is not None:
            info["truncated_by"] = spent
        seconds = time.monotonic() - started
        self._observation = episode.observe(result.body, seconds, result.aside)
        reward = float(sum(terms.values()))
        entry = {
            "step": episode.meter.steps,
            "action": recordable(action),
            "body": self._observation.body,
            "aside": self._observation.aside,
            "status": self._observation.status,
            "reward": reward,
            "reward_terms": terms,
            "terminated": terminated,
            "truncated_by": spent,
            "error": error,
            "seconds": seconds,
        }
        episode.recorder.write("step", entry)
        self._info = copy.deepcopy(info)
        if final is not None:
            self._end_episode("submitted" if terminated else f"truncated: {spent}")
        return self._observation.to_space(), reward, terminated, spent is not None, info

    def snapshot(self) -> Snapshot:
        """The state of the episode: files, budget, scores, random state, record.

        The episode goes on as if nothing had happened. Jobs that run are no part of it.

        Raises:
            ResetNeeded: There is no episode, or it is over.
            WorkspaceError: The workspace exceeds its limits, or cannot be read.
        """
        episode = self._require_episode()
        store = self._own_store()
        assert self._observation is not None
        with store.lock:
            files = episode.capture(store)
            state = branching.state_of(
                episode, self._observation, self._info, (self.np_random, self.np_random_seed)
            )
            snapshot = Snapshot(state, files, store)
            store.hold(snapshot)
        return snapshot

    def restore(self, snapshot: Snapshot) -> tuple[dict[str, Any], dict[str, Any]]:
        """Go back to a snapshot: of this episode, of another, or loaded from a file.

        An episode that is running ends, with all its processes. The new one has a record of its
        own, which holds the steps up to the snapshot. Only files that differ are written.

        Args:
            snapshot: Of the same competition, tier and instance, under the same rules.

        Returns:
            The observation and info that were returned last before the snapshot.

        Raises:
            SnapshotError: It does not fit this environment, or its files are gone.
            DataError: The instance cannot be built.
        """
        instance = branching.fitting_instance(snapshot, self.competition, self.settings, self._secret)
        start = snapshot.bring(self._own_store())
        try:
            if self._episode is None or self._episode.instance != instance:
                self._end_episode(branching.ENDING)
                self._begin(instance, start.state.seed, start)
            else:
                recorder = Recorder(new_directory(self._records))
                self.record = recorder.directory
                self._episode.go_back(start, recorder)
        except Exception as error:
            self._end_episode(f"failed: {error}")
            raise
        return self._look(start)

    def fork(self, count: int = 1) -> list[ResearchEnv]:
        """Environments that go on from here, each by itself; this one goes on too.

        A fork's files are laid out and its record is begun when it is first used; until then it
        shares everything, and leaves nothing if it is closed.

        Args:
            count: How many.

        Returns:
            Environments in the state of this one; close each.

        Raises:
            ResetNeeded, WorkspaceError: As for `snapshot`.
        """
        start = self.snapshot()
        return [self._child(start) for _ in range(count)]

    def evaluate(self, split: Split = "dev") -> Score:
        """Score the workspace as it is: for the host program, not counted as the agent's.

        Args:
            split: "dev" or "test".

        Raises:
            ResetNeeded: There is no episode, or it is over.
            SandboxError, ScoringError: The infrastructure failed.
        """
        episode = self._require_episode()
        return episode.evaluate(episode.workspace, split, by="host").score

    @override
    def render(self) -> str | None:
        """The text of the last observation, if `render_mode` is "ansi"."""
        if self.render_mode is None or self._observation is None:
            return None
        return self._observation.text

    @property
    def runs_jobs(self) -> bool:
        """Whether the episode's sandbox runs jobs; False if there is no episode."""
        return self._episode is not None and self._episode.sandbox.runs_jobs

    def warm_up(self) -> None:
        """Start the episode's sandbox now, rather than with its first command.

        Raises:
            ResetNeeded: There is no episode, or it is over.
            SandboxError: It cannot be set up.
        """
        self._require_episode().sandbox.start()

    def interrupt(self, reason: str) -> None:
        """Make a step or a reset that another thread is waiting for fail soon, with a `SandboxError`.

        The episode is over, and the environment can only be closed. For host programs that
        cannot wait; the only method that may be called while another one runs.

        Args:
            reason: The ending that the record names.
        """
        self._interruption = reason
        if self._episode is not None:
            self._episode.interrupt()

    def _go_on(self, _: str = "") -> None:
        if self._interruption:
            raise SandboxError(f"interrupted: {self._interruption}")

    @override
    def close(self) -> None:
        """End the episode, its processes and its folder; records stay."""
        self._end_episode(self._interruption or "closed")
        self._folder.remove()
        if self._store is not None:
            self._store.leave()
            self._store = None

    @override
    def __exit__(self, *error: object) -> Literal[False]:
        self.close()
        return False

    def _begin(self, instance: Instance, seed: int | None, start: Snapshot | None = None) -> Episode:
        """A new episode with its record; neither is left open if it cannot begin."""
        recorder = Recorder(new_directory(self._records))
        try:
            place = (self._folder.path, recorder)
            episode = Episode(self.competition, instance, self.settings, *place, seed=seed, start=start)
        except Exception as error:
            recorder.close({"ending": f"failed: {error}"})
            self._folder.remove()
            raise
        self._episode, self.record = episode, recorder.directory
        self._go_on()  # an interruption until here found no episode
        return episode

    def _child(self, start: Snapshot) -> ResearchEnv:
        """An environment like this one and with the same store, whose episode waits to begin."""
        child = copy.copy(self)
        child.action_space = spaces.action_space()  # which has a random state of its own
        child._folder = PrivateFolder("episode")
        child._episode = child.record = None
        child._waiting = (start, self._require_episode().instance, time.monotonic())
        child._own_store().join()
        child._look(start)
        return child

    def _look(self, start: Snapshot) -> tuple[dict[str, Any], dict[str, Any]]:
        """Be where a snapshot was: what was returned last, and the random state."""
        state = start.state
        self._info = copy.deepcopy(dict(state.info))
        self._np_random, self._np_random_seed = branching.random_from(state)
        self._observation = branching.observation_from(state, self.settings)
        return self._observation.to_space(), copy.deepcopy(self._info)

    def _own_store(self) -> Store:
        """The store that this environment shares with its forks."""
        if self._store is None or not self._store.is_open:
            self._store = Store()
            self._store.join()
        return self._store

    def _perform(self, episode: Episode, action: Any) -> tuple[str, Result, str]:
        """The action's name, its result, and the error if it could not be done."""
        name = ""
        try:
            parsed = actions.parse(action)
            name = actions.name_of(parsed)
            return name, episode.perform(parsed), ""
        except ActionError as error:
            return name, Result(f"error: {error}"), str(error)

    def _pick(self, options: Mapping[str, Any]) -> int:
        """The instance of an episode."""
        unknown = set(options) - {"instance"}
        if unknown:
            raise RegistryError(f"reset has no option {min(unknown)!r}. Known: instance.")
        if "instance" in options:
            return int(options["instance"])
        return self.pool[int(self.np_random.integers(len(self.pool)))]

    def _require_episode(self) -> Episode:
        """The running episode; that of a fork begins now, some time after it was forked."""
        if self._waiting is not None:
            (start, instance, since), self._waiting = self._waiting, None
            self._begin(instance, start.state.seed, start.later(time.monotonic() - since))
        if self._episode is None:
            raise gymnasium.error.ResetNeeded("there is no running episode; call reset() first")
        return self._episode

    def _end_episode(self, ending: str) -> None:
        self._waiting = None
        if self._episode is not None:
            episode, self._episode = self._episode, None
            episode.recorder.close({"ending": ending, "seconds": episode.meter.seconds})
            episode.close()


def make(competition: str | Competition, **options: Any) -> ResearchEnv:
    """An environment; `options` are those of `ResearchEnv`."""
    return ResearchEnv(competition, **options)
