"""Episode: one attempt at one instance, from the starter to the score on test.

An episode turns an action into the text of an observation. It owns its state, its files, its workbench
and the meter of its budget. It does not know Gymnasium, and the environment computes rewards.

An episode can begin from a snapshot, or return to one; `_go_to` does both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.instances import Instance
from mlrcbench.catalog.scale import better
from mlrcbench.env.boundary import logged
from mlrcbench.env.episode_files import EpisodeFiles
from mlrcbench.env.evaluation import Evaluation, evaluate, workspace_of
from mlrcbench.env.settings import Settings
from mlrcbench.env.workbench import ActionResult, Workbench
from mlrcbench.errors import ActionError
from mlrcbench.protocol import actions, wording
from mlrcbench.protocol.meter import Meter
from mlrcbench.protocol.observation import MAX_ASIDE_CHARS, Observation
from mlrcbench.sandbox import Sandbox
from mlrcbench.sandbox.ownership import Owner
from mlrcbench.score import Score, Split
from mlrcbench.storage.layout import DATA
from mlrcbench.storage.record import EvaluationRecord, Footer, Header, Parent, Recorder, StepRecord
from mlrcbench.storage.snapshots.content_store import ContentStore
from mlrcbench.storage.snapshots.snapshot import Snapshot
from mlrcbench.storage.snapshots.state import EpisodeState, Files
from mlrcbench.storage.workspace import Workspace
from mlrcbench.text import MAX_CHARS, cut

_CUT_NOTE_CHARS = 100  # more than `cut` puts between head and tail
RESTORED = "restored a snapshot"  # the ending of an episode that was left for a snapshot


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Whether an episode is over, and what it earned on test.

    Attributes:
        terminated: Whether the agent submitted.
        truncated_by: Which part of the budget is spent, or "record" if the record is full, if the agent did
            not submit.
        score: The score on test; None while the episode runs.
    """

    terminated: bool = False
    truncated_by: str | None = None
    score: Score | None = None

    @property
    def ending(self) -> str | None:
        """The ending that the record names; None while the episode runs."""
        if self.terminated:
            return "submitted"
        return f"truncated: {self.truncated_by}" if self.truncated_by else None


class Episode:
    """One attempt.

    Args:
        competition: The competition.
        instance: The instance of the competition.
        settings: The options of the episode.
        folder: A private folder of this episode, emptied by `close`.
        recorder: The writer of the record.
        seed: Seed of the reset that began the episode.
        start: A snapshot to begin from, instead of the starter; its contents are in a store.
    """

    def __init__(
        self,
        competition: Competition,
        instance: Instance,
        settings: Settings,
        folder: Path,
        recorder: Recorder,
        *,
        seed: int | None = None,
        start: Snapshot | None = None,
    ) -> None:
        self.competition = competition
        self.instance = instance
        self.settings = settings
        self._tier = competition.card.tier(instance.tier)
        self.state = EpisodeState(
            competition=competition.id,
            version=competition.card.version,
            tier=instance.tier,
            instance=instance.seed,
            instance_digest=instance.digest,
            rules=settings.rules(self._tier),
            seed=None if seed is None else int(seed),
        )
        self.meter = Meter(settings.budget_of(self._tier), spending=self.state)
        limits = competition.workspace_limits(instance.tier)
        views = {DATA: instance.public}
        self.workspace = workspace_of(competition, instance.tier, folder / "workspace", views)
        self.files = EpisodeFiles(self.workspace, folder / "outputs", instance.public, recorder, limits)
        self.files.create(from_starter=start is None)
        self._evaluations: dict[tuple[Split, str], Evaluation] = {}
        self._evaluation_sandbox: Sandbox | None = None
        self._interrupted = False
        self._owner = Owner()
        self.workbench = Workbench(self.files, instance, self._tier, settings.sandbox)
        if start is None:
            statement = competition.statement_of(instance.tier)
            self.state.briefing = wording.briefing(statement, self.workspace.files(), self._tier)
            self._begin_record(None)
        else:
            self._go_to(start)

    @property
    def recorder(self) -> Recorder:
        """The writer of the record."""
        return self.files.recorder

    @property
    def is_own(self) -> bool:
        """Whether this process began the episode; False in a forked copy of that process."""
        return self._owner.is_here

    def observe(self) -> Observation:
        """What the agent reads now: the result of the last step, and what is left of the budget."""
        return observation_of(self.state, self.meter)

    def begin(self, info: Mapping[str, Any]) -> Observation:
        """Store what a reset returns; returns the first observation."""
        self._say(self.state.briefing, info=info)
        return self.observe()

    def take(self, action: Any) -> ActionResult:
        """Parse an action, whatever it is, and carry it out; if that cannot be done, the result says why.

        Raises:
            SandboxError, ScoringError: The infrastructure failed.
        """
        self.state.steps += 1
        name = ""
        try:
            parsed = actions.parse(action)
            name = actions.name_of(parsed)
            return dataclasses.replace(self.perform(parsed), name=name)
        except ActionError as error:
            return ActionResult(wording.refused(error), name=name, error=str(error))

    def perform(self, action: actions.Action) -> ActionResult:
        """Carry out one action.

        Raises:
            ActionError: The action cannot be carried out; the message is for the agent.
            SandboxError, ScoringError: The infrastructure failed.
        """
        match action:
            case actions.Run():
                return self.workbench.run(action, self.state.steps, self.meter.seconds_left)
            case actions.StartJob() | actions.WaitJob() | actions.KillJob():
                return self.workbench.use_job(action, self.meter.seconds_left)
            case actions.ReadFile() | actions.WriteFile() | actions.EditFile():
                return self.workbench.use_file(action)
            case actions.Evaluate():
                return self._evaluate_on_dev()
            case actions.Submit():
                return ActionResult(wording.SUBMITTED)

    def judge(self, result: ActionResult) -> Conclusion:
        """Whether the episode is over after an action; if so, it is scored on test.

        Raises:
            SandboxError, ScoringError: The infrastructure failed.
        """
        terminated = result.name == "submit" and not result.error
        full = "record" if self.recorder.is_full else None
        truncated_by = None if terminated else self.meter.spent or full
        if not (terminated or truncated_by):
            return Conclusion()
        return Conclusion(terminated, truncated_by, self._score_on_test())

    def record_step(
        self,
        action: Any,
        result: ActionResult,
        conclusion: Conclusion,
        *,
        reward_terms: Mapping[str, float],
        info: Mapping[str, Any],
        seconds: float,
    ) -> Observation:
        """Write a step to the record; returns what the agent reads."""
        self._say(result.body, aside=result.aside, seconds=seconds, info=info)
        observation = self.observe()
        row = StepRecord(
            step=self.state.steps,
            action=actions.recordable(action),
            body=observation.body,
            aside=observation.aside,
            status=observation.status,
            reward=float(sum(reward_terms.values())),
            reward_terms=reward_terms,
            terminated=conclusion.terminated,
            truncated_by=conclusion.truncated_by,
            error=result.error,
            seconds=seconds,
        )
        self.recorder.write(row)
        return observation

    def evaluate(self, workspace: Workspace, split: Split, by: str = "agent") -> Evaluation:
        """Evaluate a workspace, keep its files, and write a row to the record; no job may be running."""
        folder = self.files.new_evaluation(split)
        evaluation = evaluate(
            workspace,
            self.competition,
            self.instance,
            split,
            sandbox=self.settings.sandbox,
            keep=self.recorder.directory / folder,
            on_open=self._opened,
            earlier=self._evaluations,
        )
        self.recorder.write(EvaluationRecord(self.state.steps, split, by, folder, evaluation.score))
        return evaluation

    def evaluate_for_host(self, split: Split) -> Score:
        """End all jobs and score the present workspace; it does not count as the agent's evaluation."""
        self.workbench.jobs.end("an evaluation")
        return self.evaluate(self.workspace, split, by="host").score

    def capture(self, store: ContentStore) -> Files:
        """All files; their contents are put into a store.

        Raises:
            WorkspaceError: The workspace exceeds its limits, or cannot be read.
        """
        return self.files.capture(store, still=not self.workbench.jobs.running)

    def go_back(self, start: Snapshot, recorder: Recorder) -> None:
        """Return to a snapshot of the same instance, and continue with a new recorder.

        Raises:
            SnapshotError: Its files are missing, or the disk is full; the episode must then be closed.
        """
        self.workbench.leave()
        self._close_record(RESTORED)
        self.files.recorder = recorder
        self._go_to(start)

    def interrupt(self) -> None:
        """End what is running, from any thread; a call that waits for it soon raises a `SandboxError`."""
        self._interrupted = True
        self.workbench.sandbox.interrupt()
        if self._evaluation_sandbox is not None:
            self._evaluation_sandbox.interrupt()

    def close(self, ending: str) -> None:
        """End every process, remove the workspace and write the record's ending; nothing is raised.

        In a forked copy of the process that began the episode, nothing is done.
        """
        if not self.is_own:
            return
        self._close_record(ending)
        self.workbench.close()

    def _close_record(self, ending: str) -> None:
        with logged("writing the end of a record"):
            self.recorder.close(Footer(ending, self.meter.seconds))

    def _say(
        self, body: str, *, info: Mapping[str, Any], aside: str = "", seconds: float | None = None
    ) -> None:
        """Store what the agent reads after a reset or a step."""
        state = self.state
        state.body, state.aside = cut(body), cut(aside, MAX_ASIDE_CHARS - _CUT_NOTE_CHARS)
        state.body_seconds, state.info = seconds, info

    def _go_to(self, start: Snapshot) -> None:
        """Restore a snapshot: the state, then the record, then the files.

        No process may be running. Nothing else brings earlier files into an episode.
        """
        self.state = start.state.copy(record=self.recorder.directory.name)
        self.meter = Meter(self.meter.budget, spending=self.state)
        self._evaluations.clear()  # which lie in the record of another episode
        self._begin_record(start)
        self.workbench.renew(self.files.lay_out(start))

    def _begin_record(self, start: Snapshot | None) -> None:
        """Write the header, and the lines up to where the episode begins."""
        state, rules = self.state, self.state.rules
        state.record = self.recorder.directory.name
        header = Header(
            competition=state.competition,
            competition_version=state.version,
            tier=state.tier,
            instance=state.instance,
            instance_digest=state.instance_digest,
            secret=self.instance.secret_kind,
            statement=state.briefing,
            seed=state.seed,
            sandbox=self.settings.sandbox,
            isolation=self.workbench.sandbox.isolation,
            budget=rules.budget,
            reward=rules.reward,
            clip=rules.clip,
            final=rules.final,
            parent=Parent(start.state.record, start.step) if start else None,
        )
        self.files.begin_record(header, start.files.read_journal(start.source) if start else b"")

    def _score_on_test(self) -> Score:
        """End all jobs, and score the files of the best evaluation, or the last state, on test."""
        self.workbench.jobs.end("an evaluation")
        best = self.state.best if self.settings.final == "best" else None
        workspace = self.files.evaluated_workspace(best[1]) if best else self.workspace
        return self.evaluate(workspace, "test").score

    def _evaluate_on_dev(self) -> ActionResult:
        if self.meter.left.evaluations == 0:
            raise ActionError(wording.NO_EVALUATIONS_LEFT)
        self.state.evaluations += 1
        aside = self.workbench.jobs.end("an evaluation")
        evaluation = self.evaluate(self.workspace, "dev")
        score = evaluation.score
        self.state.scores = (*self.state.scores, score)
        if evaluation.kept is not None and score.value is not None and not self._is_worse(score.value):
            folder = evaluation.kept.root.parent.relative_to(self.recorder.directory)
            self.state.best = (score.value, folder.as_posix())
        verdict = wording.verdict(score, self.competition.card, self._tier)
        if evaluation.repeats:
            verdict = f"{wording.SAME_FILES}\n{verdict}"
        return ActionResult(f"{verdict}\n{evaluation.output}".rstrip(), score, aside)

    def _is_worse(self, value: float) -> bool:
        """Whether `value` is worse than the best so far. Ties go to the later one, as in the paper."""
        direction = self.competition.card.metric.direction
        return self.state.best is not None and better(self.state.best[0], value, direction)

    def _opened(self, sandbox: Sandbox) -> None:
        """Remember the sandbox of an evaluation, so that it can be interrupted."""
        self._evaluation_sandbox = sandbox
        if self._interrupted:
            sandbox.interrupt()


def observation_of(state: EpisodeState, meter: Meter) -> Observation:
    """What an agent reads in a state; texts that are longer than any episode's own are cut."""
    return Observation(
        body=_bounded(state.body, MAX_CHARS),
        left=meter.left,
        best=state.best_improvement,
        seconds=state.body_seconds,
        aside=_bounded(state.aside, MAX_ASIDE_CHARS),
    )


def _bounded(text: str, limit: int) -> str:
    """A text as it is if it was cut to a limit before; a snapshot from elsewhere may hold any text."""
    return text if len(text) <= limit + _CUT_NOTE_CHARS else cut(text, limit)
