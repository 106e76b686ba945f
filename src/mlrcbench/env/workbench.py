"""The workbench: where an episode's actions are carried out, its workspace in a sandbox with its jobs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from mlrcbench.catalog.card import Tier
from mlrcbench.catalog.instances import Instance
from mlrcbench.env.boundary import logged
from mlrcbench.env.episode_files import EpisodeFiles
from mlrcbench.env.jobs import Jobs
from mlrcbench.protocol import actions, wording
from mlrcbench.protocol.observation import hides, join_output
from mlrcbench.sandbox import Limits, Policy, Sandbox, open_sandbox
from mlrcbench.score import Score
from mlrcbench.storage.layout import OUTPUTS

MAX_OUTPUT_BYTES = 16 << 20
# The shortest time limit of a command or a job, for the end of a budget: enough to start and to be ended.
_SHORTEST_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class ActionResult:
    """The result of an action.

    Attributes:
        body: Text for the agent.
        score: The score, if the action was an evaluation.
        aside: Text that depends on the moment; see `Observation`.
        name: Name of the action; empty if it was not understood.
        error: Why it could not be carried out; empty if it was.
    """

    body: str
    score: Score | None = None
    aside: str = ""
    name: str = ""
    error: str = ""


class Workbench:
    """A workspace in its sandbox.

    Args:
        files: The episode's files.
        instance: The instance, whose public folder commands may read.
        tier: The tier, which sets the limits.
        kind: Kind of sandbox; see `open_sandbox`.
    """

    def __init__(self, files: EpisodeFiles, instance: Instance, tier: Tier, kind: str) -> None:
        self.files = files
        self.workspace = files.workspace
        self._instance = instance
        self._tier = tier
        self._kind = kind
        self.sandbox: Sandbox = self._open_sandbox()
        self.jobs = self._new_jobs()

    def run(self, action: actions.Run, step: int, seconds_left: float) -> ActionResult:
        """Run a command.

        Args:
            action: The command.
            step: Number of the step, for the name of a long output.
            seconds_left: Seconds left of the budget; no command outlasts them.
        """
        seconds = min(action.timeout or float("inf"), self._tier.limits.command_seconds)
        seconds = min(seconds, max(_SHORTEST_SECONDS, seconds_left))
        log = self.files.outputs / f"step-{step:04d}.txt"
        self._instance.repair()
        self.workspace.link_views()
        result = self.sandbox.run(
            action.command, self._with_log(self._tier.limits.of_command(seconds)), log=log
        )
        shown_as = f"{OUTPUTS}/{log.name}"
        parts = [join_output(result.head, result.tail, result.omitted, shown_as)]
        if not log.exists() and self._keep_hidden(result.head + result.tail, log):
            parts.append(wording.output_is_folded(shown_as))
        if log.exists():
            self.files.keep_output(log)
            total = len(result.head) + result.omitted + len(result.tail)
            parts.append(wording.output_was_cut("command", total, log.stat().st_size))
        parts.append(f"[{wording.command_ending(result, seconds)}]")
        return ActionResult(self.workspace.scrub("\n".join(part for part in parts if part)))

    def _keep_hidden(self, output: bytes, log: Path) -> bool:
        """Write an output to its file if a terminal shows only a part of it; False if it is shown whole."""
        if not hides(output) or len(output) > self.files.outputs_left:
            return False
        try:
            log.write_bytes(output)
        except OSError:  # the disk is full; what is shown is more important
            log.unlink(missing_ok=True)
            return False
        return True

    def use_job(
        self, action: actions.StartJob | actions.WaitJob | actions.KillJob, seconds_left: float
    ) -> ActionResult:
        """Start a job, wait for one, or kill one; none outlasts what is left of the budget.

        Raises:
            ActionError: The job does not exist, or too many jobs are running.
        """
        aside = ""
        if isinstance(action, actions.StartJob):
            seconds = min(action.timeout or seconds_left, seconds_left)
            limits = self._with_log(self._tier.limits.of_job(max(_SHORTEST_SECONDS, seconds)))
            self._instance.repair()
            self.files.show_outputs()
            body = self.jobs.start(action, limits)
        elif isinstance(action, actions.WaitJob):
            seconds = min(action.max_seconds or self._tier.limits.command_seconds, seconds_left)
            body, aside = self.jobs.wait(action, max(_SHORTEST_SECONDS, seconds))
        else:
            body, aside = self.jobs.kill(action)
        return ActionResult(self.workspace.scrub(body), aside=self.workspace.scrub(aside))

    def use_file(self, action: actions.ReadFile | actions.WriteFile | actions.EditFile) -> ActionResult:
        """Read, write or edit a file.

        Raises:
            WorkspaceError: The path or the text cannot be used.
        """
        match action:
            case actions.ReadFile():
                self._instance.repair()  # it may read public data
                return ActionResult(self.workspace.read(action.path, action.start, action.end))
            case actions.WriteFile():
                return ActionResult(self.workspace.write(action.path, action.text))
            case actions.EditFile():
                return ActionResult(self.workspace.edit(action.path, action.old, action.new))

    def leave(self) -> None:
        """End all jobs and copy their logs to the record, before other files are laid out."""
        self.jobs.end("a restore")
        self.files.keep_job_logs(self.jobs.logs)

    def renew(self, replaced_bytes: int) -> None:
        """Begin again after other files were laid out.

        Args:
            replaced_bytes: Bytes that the workspace took on the disk before.
        """
        if replaced_bytes > self._tier.limits.workspace_mb << 20:  # this sandbox would let it only shrink
            self.sandbox.close()
            self.sandbox = self._open_sandbox()
        self.jobs = self._new_jobs()

    def close(self) -> None:
        """End every process and remove the files; the record stays; nothing is raised."""
        with logged("closing a sandbox"):
            self.sandbox.close()
        with logged("copying the logs of jobs"):
            self.files.keep_job_logs(self.jobs.logs)
        with logged("removing a workspace"):
            self.files.remove()

    def _open_sandbox(self) -> Sandbox:
        readable = (self._instance.public, self.files.outputs)
        hidden = (self.files.recorder.directory,)
        policy = Policy(self.workspace.root, readable, gpu=self._tier.gpu_mb > 0, hidden=hidden)
        return open_sandbox(self._kind, policy)

    def _new_jobs(self) -> Jobs:
        return Jobs(self.sandbox, self.files.outputs, OUTPUTS)

    def _with_log(self, limits: Limits) -> Limits:
        """Limits whose log fits into what is left for the episode's outputs."""
        log_bytes = min(MAX_OUTPUT_BYTES, self.files.outputs_left - self.jobs.log_bytes)
        return dataclasses.replace(limits, log_bytes=max(0, log_bytes))
