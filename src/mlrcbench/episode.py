"""Episode: one attempt at one instance, from the starter to the score on test.

It owns the workspace, its sandbox, the budget's meter and the best evaluation so far, and turns
an action into words. It knows nothing of Gymnasium; rewards are the environment's.

It can begin from a snapshot, or go back to one; `_go_to` is where both happen.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlrcbench import actions, branching
from mlrcbench.budget import Budget, Meter
from mlrcbench.checkout import Checkout
from mlrcbench.competition import Competition, Instance
from mlrcbench.errors import ActionError, WorkspaceError
from mlrcbench.evaluation import Evaluation, evaluate
from mlrcbench.files import TreeLimits, copy_file, remove_tree
from mlrcbench.jobs import Jobs
from mlrcbench.metrics import better
from mlrcbench.observation import MAX_ASIDE_CHARS, Observation, cut, join_output
from mlrcbench.record import EVALUATIONS, OUTPUTS, Recorder
from mlrcbench.reward import Scheme
from mlrcbench.sandbox import Limits, Policy, Sandbox, open_sandbox
from mlrcbench.score import Score, Split
from mlrcbench.snapshot import Files, Snapshot, best_improvement, explained
from mlrcbench.store import Store
from mlrcbench.tree import Tree, link_out
from mlrcbench.wording import briefing, ending, verdict
from mlrcbench.workspace import DATA, Workspace
from mlrcbench.workspace import OUTPUTS as OUTPUTS_VIEW

Final = Literal["best", "last"]

MAX_OUTPUT_BYTES = 16 << 20
MAX_OUTPUTS_BYTES = 64 << 20
_KEPT_LIMITS = TreeLimits(entries=100_000, depth=80, total_bytes=1 << 40)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user chose for an episode.

    Attributes:
        tier: "mini" or "full".
        sandbox: See `open_sandbox`.
        budget: What may be spent.
        final: Whether the best snapshot on dev or the last state is scored on test.
        reward: See `Reward`.
        clip: Likewise.
    """

    tier: str
    sandbox: str
    budget: Budget
    final: Final
    reward: Scheme = "sparse"
    clip: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What an action did.

    Attributes:
        body: Words for the agent.
        score: If it was an evaluation.
        aside: Words that depend on the moment; see `Observation`.
    """

    body: str
    score: Score | None = None
    aside: str = ""


class Episode:
    """One attempt.

    Args:
        competition: What is attempted.
        instance: On which data.
        settings: Under which rules.
        folder: A private folder of this episode, emptied by `close`.
        recorder: Where everything is written down.
        seed: Of the reset that began it.
        start: What to begin from, instead of the starter; its contents are in a store.
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
        self.recorder = recorder
        self.seed = seed
        self.meter = Meter(settings.budget)
        self.scores: list[Score] = []
        self._tier = competition.card.tier(instance.tier)
        self._best: tuple[float, Workspace] | None = None
        limits = branching.workspace_limits(competition, instance.tier)
        self.workspace = Workspace(
            folder / "workspace",
            starter=competition.starter_of(instance.tier),
            statement=competition.statement_of(instance.tier),
            editable=competition.card.editable,
            views={DATA: instance.public},
            limits=limits,
        )
        self._files = Checkout(self.workspace.root, limits)
        self._outputs = Checkout(folder / "outputs", TreeLimits())
        self._outputs_bytes = 0
        self._kept: dict[str, Tree] = {}
        self._journal: tuple[tuple[str, int], ...] = ()
        self._journal_end = 0
        self._outputs.root.mkdir()
        if start is None:
            self.workspace.create()
        else:
            self.workspace.root.mkdir()
        self._evaluating: Sandbox | None = None
        self._interrupted = False
        self.sandbox: Sandbox = self._open_sandbox()
        self.jobs = self._no_jobs()
        if start is None:
            self._begin_record()
        else:
            self._go_to(start)

    @property
    def best(self) -> float:
        """Largest improvement on dev so far; 0, the baseline, before any."""
        return best_improvement(self.scores)

    @property
    def best_folder(self) -> tuple[float, str] | None:
        """Value and folder of the evaluation that would be scored on test."""
        if self._best is None:
            return None
        folder = self._best[1].root.parent.relative_to(self.recorder.directory)
        return self._best[0], folder.as_posix()

    def observe(self, body: str, seconds: float | None = None, aside: str = "") -> Observation:
        """Words for the agent, with what is left of the budget."""
        aside = cut(aside, MAX_ASIDE_CHARS - 100)
        return Observation(cut(body), self.meter.left, self.best, seconds, aside)

    @functools.cached_property
    def briefing(self) -> str:
        """What an agent is told at the start."""
        statement = self.competition.statement_of(self.instance.tier)
        return briefing(statement, self.workspace.files(), self._tier)

    def perform(self, action: actions.Action) -> Result:
        """Carry out one action.

        Raises:
            ActionError: It cannot be done; the text is for the agent.
            SandboxError, ScoringError: The infrastructure failed.
        """
        match action:
            case actions.Run():
                return Result(self._run(action))
            case actions.StartJob() | actions.WaitJob() | actions.KillJob():
                return self._use_job(action)
            case actions.ReadFile() | actions.WriteFile() | actions.EditFile():
                return Result(self._use_file(action))
            case actions.Evaluate():
                return self._evaluate_on_dev()
            case actions.Submit():
                return Result("submitted; the episode is over")

    def finish(self) -> Score:
        """Score the best snapshot on dev, or the last state, on test."""
        use_best = self.settings.final == "best" and self._best is not None
        workspace = self._best[1] if use_best and self._best else self.workspace
        return self.evaluate(workspace, "test").score

    def evaluate(self, workspace: Workspace, split: Split, by: str = "agent") -> Evaluation:
        """Evaluate a workspace, keep what was scored, and write it down; jobs end before."""
        self.jobs.end("an evaluation")
        number = sum(1 for _ in (self.recorder.directory / EVALUATIONS).glob("*")) + 1
        name = f"{EVALUATIONS}/{number:03d}-{split}"
        keep = self.recorder.directory / name
        evaluation = evaluate(
            workspace,
            self.competition,
            self.instance,
            split,
            sandbox=self.settings.sandbox,
            keep=keep,
            on_open=self._opened,
        )
        entry = {"after_step": self.meter.steps, "split": split, "by": by, "folder": name}
        self.recorder.write("evaluation", {**entry, "score": evaluation.score.to_json()})
        return evaluation

    def capture(self, store: Store) -> Files:
        """All files, their contents in a store.

        Raises:
            WorkspaceError: The workspace exceeds its limits, or cannot be read.
        """
        store.hold(self)
        with store.lock:
            views = {DATA: self.instance.public, OUTPUTS_VIEW: self._outputs.root}
            workspace = self._files.capture(store, views, still=self.is_still)
            outputs = self._outputs.capture(store, {})
            for folder in sorted((self.recorder.directory / EVALUATIONS).glob("*")):
                name = f"{EVALUATIONS}/{folder.name}"
                if name not in self._kept:
                    self._kept[name] = Checkout(folder, _KEPT_LIMITS).capture(store, {})
            lines = self.recorder.lines_from(self._journal_end)
            if lines:
                self._journal = (*self._journal, (store.put_bytes(lines), len(lines)))
                self._journal_end += len(lines)
            return Files(workspace, outputs, dict(self._kept), self._journal)

    def digests(self) -> set[str]:
        """Contents in the store that its next snapshot will name without reading them again."""
        return set(Files({}, {}, self._kept, self._journal).contents())

    def go_back(self, start: Snapshot, recorder: Recorder) -> None:
        """Be at a snapshot of the same instance, from now on written down by another recorder.

        Raises:
            SnapshotError: Its files are gone, or the disk is full; the episode has to be closed.
        """
        self.jobs.end("a restore")
        self._keep_job_logs()
        self.recorder.close({"ending": branching.ENDING, "seconds": self.meter.seconds})
        self.recorder = recorder
        self._go_to(start)

    @property
    def is_still(self) -> bool:
        """Whether no process of the agent is running now."""
        return not self.jobs.running

    def interrupt(self) -> None:
        """End what runs, from any thread; whoever waits for it gets a `SandboxError` soon."""
        self._interrupted = True
        self.sandbox.interrupt()
        if self._evaluating is not None:
            self._evaluating.interrupt()

    def _opened(self, sandbox: Sandbox) -> None:
        """An evaluation has a sandbox of its own."""
        self._evaluating = sandbox
        if self._interrupted:
            sandbox.interrupt()

    def close(self) -> None:
        """End every process and remove the workspace; the record stays."""
        self.sandbox.close()
        self._keep_job_logs()
        remove_tree(self.workspace.root)
        remove_tree(self._outputs.root)

    def _open_sandbox(self) -> Sandbox:
        readable = (self.instance.public, self._outputs.root)
        policy = Policy(self.workspace.root, readable, gpu=self._tier.gpu_mb > 0)
        return open_sandbox(self.settings.sandbox, policy)

    def _no_jobs(self) -> Jobs:
        return Jobs(self.sandbox, self._outputs.root, OUTPUTS_VIEW)

    def _keep_job_logs(self) -> None:
        """Give the record what jobs have printed; they have ended."""
        for log in self.jobs.logs:
            with contextlib.suppress(WorkspaceError):  # the sandbox was lost before it was begun
                copy_file(log, self.recorder.directory / OUTPUTS / log.name)

    def _go_to(self, start: Snapshot) -> None:
        """Be at a snapshot: what was spent and judged, then the record, then the files.

        It is the one place where files of another time come in; nothing may be running.
        """
        state, files = start.state, start.files
        self.meter.go_back_to(state.steps, state.evaluations, state.seconds)
        self.scores = list(state.scores)
        self.seed = state.seed
        self.briefing = state.briefing
        self._best = None
        if state.best is not None:
            root = self.recorder.directory / state.best[1] / "workspace"
            self._best = (state.best[0], self.workspace.at(root, {}))
        outputs = [node for node in files.outputs.values() if node.kind == "file"]
        self._outputs_bytes = sum(node.size for node in outputs)
        self.workspace.views.pop(OUTPUTS_VIEW, None)
        if outputs:
            self.workspace.views[OUTPUTS_VIEW] = self._outputs.root
        self._kept, self._journal = dict(files.kept), files.journal
        self._begin_record(start)
        self._lay_out(files, start.store)

    def _begin_record(self, start: Snapshot | None = None) -> None:
        """Write the header, and the lines up to where the episode begins."""
        self.recorder.write("header", branching.header(self, start.state if start else None))
        self.recorder.write_lines(start.read_journal() if start else b"")
        self._journal_end = self.recorder.position

    def _lay_out(self, files: Files, store: Store) -> None:
        """Make workspace and outputs what they were, and give the record what had been kept."""
        views = {DATA: self.instance.public, OUTPUTS_VIEW: self._outputs.root}
        try:
            replaced_bytes = self._files.lay_out(files.workspace, store, views)
            self._outputs.lay_out(files.outputs, store, {})
            for name, kept in files.kept.items():
                link_out(kept, store, self.recorder.directory / name)
            link_out(files.outputs, store, self.recorder.directory / OUTPUTS)
        except WorkspaceError as error:
            raise explained(error) from error
        if replaced_bytes > self._tier.limits.workspace_mb << 20:  # the sandbox lets such a one only shrink
            self.sandbox.close()
            self.sandbox = self._open_sandbox()
        self.jobs = self._no_jobs()

    def _run(self, action: actions.Run) -> str:
        seconds = min(action.timeout or float("inf"), self._tier.limits.command_seconds)
        seconds = min(seconds, max(0.01, self.meter.seconds_left))
        log = self._outputs.root / f"step-{self.meter.steps:04d}.txt"
        self.workspace.link_views()
        result = self.sandbox.run(action.command, self._limits(seconds), log=log)
        if log.exists():
            copy_file(log, self.recorder.directory / OUTPUTS / log.name)
            self._outputs_bytes += log.stat().st_size
            self._show_outputs()
        output = join_output(result.head, result.tail, result.omitted, f"{OUTPUTS_VIEW}/{log.name}")
        return self.workspace.scrub(f"{output.rstrip()}\n[{ending(result, seconds)}]".lstrip())

    def _use_job(self, action: actions.StartJob | actions.WaitJob | actions.KillJob) -> Result:
        left = self.meter.seconds_left
        aside = ""
        if isinstance(action, actions.StartJob):
            limits = self._limits(max(0.01, min(action.timeout or left, left)))
            self._show_outputs()
            body = self.jobs.start(action, limits)
        elif isinstance(action, actions.WaitJob):
            most = action.max_seconds or self._tier.limits.command_seconds
            body, aside = self.jobs.wait(action, max(0.01, min(most, left)))
        else:
            body, aside = self.jobs.kill(action)
        return Result(self.workspace.scrub(body), aside=self.workspace.scrub(aside))

    def _use_file(self, action: actions.ReadFile | actions.WriteFile | actions.EditFile) -> str:
        if isinstance(action, actions.ReadFile):
            return self.workspace.read(action.path, action.start, action.end)
        if isinstance(action, actions.WriteFile):
            return self.workspace.write(action.path, action.text)
        return self.workspace.edit(action.path, action.old, action.new)

    def _show_outputs(self) -> None:
        """Let the agent see the folder of long outputs."""
        self.workspace.views[OUTPUTS_VIEW] = self._outputs.root
        self.workspace.link_views()

    def _limits(self, seconds: float) -> Limits:
        limits = self._tier.limits
        used = self._outputs_bytes + self.jobs.log_bytes
        return Limits(
            seconds=seconds,
            memory_bytes=limits.memory_mb << 20,
            processes=limits.processes,
            workspace_bytes=limits.workspace_mb << 20,
            log_bytes=max(0, min(MAX_OUTPUT_BYTES, MAX_OUTPUTS_BYTES - used)),
            threads=limits.threads,
        )

    def _evaluate_on_dev(self) -> Result:
        if self.meter.left.evaluations == 0:
            raise ActionError("no evaluations are left; go on with your own experiments, or submit")
        self.meter.evaluations += 1
        aside = self.jobs.end("an evaluation")
        evaluation = self.evaluate(self.workspace, "dev")
        score = evaluation.score
        self.scores.append(score)
        if evaluation.kept is not None and score.value is not None and not self._is_worse(score.value):
            self._best = (score.value, evaluation.kept)
        return Result(
            f"{verdict(score, self.competition.card, self._tier)}\n{evaluation.output}".rstrip(), score, aside
        )

    def _is_worse(self, value: float) -> bool:
        """Than the best so far; of equals the later one counts, as in the paper's protocol."""
        direction = self.competition.card.metric.direction
        return self._best is not None and better(self._best[0], value, direction)
