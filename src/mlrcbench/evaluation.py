"""Evaluation: the trust boundary, and the only place that holds a workspace and answers at once.

Agent code runs in a throw-away copy, in a sandbox that shows it the split's inputs and not the
answers. When its last process is gone, the declared artefacts are copied out; then a trusted
child process, which never sees the copy, compares them with the answers. One path serves both
splits. Whatever agent code does, the result is a `Score`; a failure of the sandbox or of the
scorer is an exception.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlrcbench.artefacts import collect
from mlrcbench.card import Tier
from mlrcbench.child import ChildError, call
from mlrcbench.competition import Competition, Instance
from mlrcbench.errors import ScoringError, SubmissionError, WorkspaceError
from mlrcbench.metrics import improvement, logical_lines, logical_lines_single
from mlrcbench.observation import join_output
from mlrcbench.sandbox import ExecResult, Limits, Policy, Sandbox, open_sandbox
from mlrcbench.score import Score, Split
from mlrcbench.scratch import make_scratch, remove_scratch
from mlrcbench.workspace import ARTEFACTS, DATA, INPUTS, Workspace

LOG = "output.txt"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A judgement.

    Attributes:
        score: See `Score`.
        output: Head and tail of what the entry point printed.
        kept: The files that were scored; None if they could not be copied.
    """

    score: Score
    output: str = ""
    kept: Workspace | None = None


def evaluate(
    workspace: Workspace,
    competition: Competition,
    instance: Instance,
    split: Split,
    *,
    sandbox: str,
    keep: Path,
    on_open: Callable[[Sandbox], None] | None = None,
) -> Evaluation:
    """Run a workspace's entry point on a split and judge what it leaves.

    Args:
        workspace: Files to evaluate; not changed.
        competition: Whose entry point, limits and scorer.
        instance: Whose inputs and answers.
        split: "dev" or "test".
        sandbox: See `open_sandbox`.
        keep: New folder for `workspace/`, as it is scored, `artefacts/` and `output.txt`.
        on_open: Called with the sandbox before anything runs in it; it may be interrupted.

    Raises:
        SandboxError: The sandbox failed.
        ScoringError: The scorer failed.
    """
    tier = competition.card.tier(instance.tier)
    keep.mkdir(parents=True)
    scratch = make_scratch("evaluation")
    try:
        views = {DATA: instance.public, INPUTS: instance.inputs(split)}
        kept = workspace.clone(keep / "workspace", {})
        fresh = kept.clone(scratch / "workspace", views)
        sources = fresh.sources()
        single = logical_lines_single(fresh.text(competition.card.method_file) or "")
        (fresh.root / ARTEFACTS).mkdir()
        policy = Policy(fresh.root, readable=tuple(views.values()), gpu=tier.gpu_mb > 0)
        with open_sandbox(sandbox, policy) as box:
            if on_open is not None:
                on_open(box)
            result = box.run(
                competition.card.entry_point, evaluation_limits(competition, tier.name), log=keep / LOG
            )
        output = join_output(result.head, result.tail, result.omitted, None)
        refusal = _refusal(result, competition, tier)
        score = refusal or _judge(fresh.root / ARTEFACTS, keep / ARTEFACTS, competition, instance, split)
    except WorkspaceError as error:
        return Evaluation(dataclasses.replace(Score.invalid(f"the workspace: {error}"), split=split))
    finally:
        remove_scratch(scratch)
    score = dataclasses.replace(
        score,
        split=split,
        wall_seconds=result.wall_seconds,
        cpu_seconds=result.cpu_seconds,
        peak_memory_bytes=result.peak_memory_bytes,
        logical_lines=logical_lines(sources),
        logical_lines_single=single,
    )
    return Evaluation(score, fresh.scrub(output), kept)


def score_artefacts(artefacts: Path, competition: Competition, instance: Instance, split: Split) -> Score:
    """Judge collected artefacts in a trusted child process.

    Args:
        artefacts: A folder that `collect` made.
        competition: Whose scorer.
        instance: Whose answers.
        split: "dev" or "test".

    Returns:
        Value, details and improvement, or an invalid score with the reason.

    Raises:
        ScoringError: The scorer crashed, hung, or returned nonsense.
    """
    tier = competition.card.tier(instance.tier)
    arguments = {"artefacts": str(artefacts), "answers": str(instance.answers(split))}
    try:
        scorer = competition.scorer_of(instance.tier)
        answer = call(
            "score",
            scorer,
            arguments,
            seconds=tier.limits.scoring_seconds,
            threads=tier.limits.threads,
            gpu=tier.gpu_mb > 0,
        )
        score = Score.from_json(answer)
    except SubmissionError as error:
        return Score.invalid(str(error))
    except (ChildError, TypeError, ValueError) as error:
        raise ScoringError(f"{competition.id}'s scorer failed on {split}: {error}") from error
    if score.value is None:
        return score
    anchors = tier.anchors[split]
    return dataclasses.replace(score, improvement=improvement(score.value, anchors))


def evaluation_limits(competition: Competition, tier: str) -> Limits:
    """The sandbox's limits for an evaluation of this tier."""
    limits = competition.card.tier(tier).limits
    return Limits(
        seconds=limits.evaluation_seconds,
        memory_bytes=limits.memory_mb << 20,
        processes=limits.processes,
        workspace_bytes=limits.workspace_mb << 20,
        threads=limits.threads,
    )


def _refusal(result: ExecResult, competition: Competition, tier: Tier) -> Score | None:
    """Why there is nothing to score, if the entry point did not end well."""
    entry = competition.card.entry_point
    if result.ending == "timeout":
        return Score.invalid(f"{entry!r} ran longer than {tier.limits.evaluation_seconds:g} s", "timeout")
    if result.ending == "memory":
        return Score.invalid(f"{entry!r} used more than {tier.limits.memory_mb} MiB of memory", "memory")
    if result.ending != "exited":
        return Score.invalid(f"{entry!r} was stopped: it reached the limit on {result.ending}")
    if result.exit_status != 0:
        return Score.invalid(f"{entry!r} ended with exit status {result.exit_status}; see its output")
    return None


def _judge(left: Path, kept: Path, competition: Competition, instance: Instance, split: Split) -> Score:
    """Take the artefacts that were left, and score what was kept of them."""
    try:
        collect(left, kept, competition.card.artefacts_of(instance.tier))
    except SubmissionError as error:
        return Score.invalid(str(error))
    return score_artefacts(kept, competition, instance, split)
