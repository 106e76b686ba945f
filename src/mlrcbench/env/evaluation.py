"""Evaluation: the trust boundary, and the only module that handles both a workspace and answers.

Agent code runs in a throw-away copy, in a sandbox that shows it the split's inputs and not the
answers. When its last process has ended, the declared artefacts are copied out; then a trusted child
process, which never sees the workspace, compares them with the answers. The same code serves both
splits. Whatever agent code does, the result is a `Score`; a failure of the sandbox or of the scorer
is an exception.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlrcbench.artefacts import collect
from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.instances import Instance
from mlrcbench.catalog.ladder import standing
from mlrcbench.catalog.scale import improvement, improvement_error
from mlrcbench.catalog.trusted import ChildError, call
from mlrcbench.env.boundary import logged
from mlrcbench.env.code_lines import count_lines
from mlrcbench.env.game import failed, play
from mlrcbench.errors import ScoringError, SubmissionError, WorkspaceError
from mlrcbench.protocol import wording
from mlrcbench.protocol.observation import join_output
from mlrcbench.sandbox import Policy, Sandbox, open_sandbox
from mlrcbench.score import Score, Split
from mlrcbench.storage.layout import ARTEFACTS, DATA, EVALUATED_WORKSPACE, EVALUATION_OUTPUT, INPUTS
from mlrcbench.storage.temporary import make_scratch, remove_scratch
from mlrcbench.storage.trees import TreeLimits, copy_file, copy_tree, hash_tree
from mlrcbench.storage.workspace import Workspace

# What was copied is within its limits; the starter and the statement are added to it.
_COPIED = TreeLimits(entries=1 << 20, depth=256, total_bytes=1 << 50)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        score: The score, which may be invalid.
        output: Head and tail of what the entry point printed.
        kept: The files that were scored; None if they could not be copied.
        repeats: Whether this is the result of an earlier evaluation of the same files.
    """

    score: Score
    output: str = ""
    kept: Workspace | None = None
    repeats: bool = False


def workspace_of(
    competition: Competition, tier: str, root: Path, views: Mapping[str, Path] | None = None
) -> Workspace:
    """The workspace of an episode in a folder, for example one that a record has kept.

    Args:
        competition: The competition, which has the starter and the statement.
        tier: "mini" or "full".
        root: The folder.
        views: See `Workspace`; none by default.
    """
    return Workspace(
        root,
        starter=competition.starter_of(tier),
        statement=competition.statement_of(tier),
        editable=competition.card.editable,
        views=views or {},
        limits=competition.workspace_limits(tier),
        carried=competition.card.tier(tier).carried,
    )


def evaluate(
    workspace: Workspace,
    competition: Competition,
    instance: Instance,
    split: Split,
    *,
    sandbox: str,
    keep: Path,
    on_open: Callable[[Sandbox], None] | None = None,
    earlier: dict[tuple[Split, str], Evaluation] | None = None,
) -> Evaluation:
    """Run the entry point on a split in a copy of a workspace, and score the artefacts that it leaves.

    Args:
        workspace: The files to evaluate; they are not changed.
        competition: The competition, which defines the entry point, the limits and the scorer.
        instance: The instance, which has the inputs and the answers.
        split: "dev" or "test".
        sandbox: See `open_sandbox`.
        keep: New folder for the scored `workspace/`, for `artefacts/` and for `output.txt`.
        on_open: Called with the sandbox before anything runs in it, so that it can be interrupted.
        earlier: Scored evaluations on this instance by split and digest of the files; the new one is added.
            Nothing runs for files that are among them: they get the artefacts and the score that they had.

    Raises:
        SandboxError: The sandbox failed.
        ScoringError: The scorer failed.
    """
    known = {} if earlier is None else earlier
    instance.repair(split)
    keep.mkdir(parents=True)
    try:
        kept = workspace.clone(keep / EVALUATED_WORKSPACE, {})
        key = (split, hash_tree(kept.root, _COPIED))
        if key in known:
            return _repeat(known[key], kept, keep)
        evaluation = _evaluate_new(
            kept, competition, instance, split, sandbox=sandbox, keep=keep, on_open=on_open
        )
    except WorkspaceError as error:
        return Evaluation(dataclasses.replace(Score.invalid(wording.workspace_failure(error)), split=split))
    if evaluation.score.valid:
        known[key] = evaluation
    return evaluation


def _repeat(earlier: Evaluation, kept: Workspace, keep: Path) -> Evaluation:
    """The result of an earlier evaluation of the same files; its artefacts and output are copied."""
    assert earlier.kept is not None
    folder = earlier.kept.root.parent
    copy_tree(folder / ARTEFACTS, keep / ARTEFACTS)
    if (folder / EVALUATION_OUTPUT).exists():
        copy_file(folder / EVALUATION_OUTPUT, keep / EVALUATION_OUTPUT)
    return dataclasses.replace(earlier, kept=kept, repeats=True)


def _evaluate_new(
    kept: Workspace,
    competition: Competition,
    instance: Instance,
    split: Split,
    *,
    sandbox: str,
    keep: Path,
    on_open: Callable[[Sandbox], None] | None,
) -> Evaluation:
    """Run and score files that have not been scored before."""
    tier = competition.card.tier(instance.tier)
    scratch = make_scratch("evaluation")
    try:
        views = {DATA: instance.public, INPUTS: instance.inputs(split)}
        fresh = kept.clone(scratch / "workspace", views)
        lines, single = count_lines(fresh.sources(), fresh.text(competition.card.method_file) or "")
        (fresh.root / ARTEFACTS).mkdir()
        policy = Policy(fresh.root, readable=tuple(views.values()), gpu=tier.gpu_mb > 0, hidden=(keep,))
        with open_sandbox(sandbox, policy) as box:
            if on_open is not None:
                on_open(box)
            if competition.oracle is None:
                limits = tier.limits.of_evaluation()
                result = box.run(competition.card.entry_point, limits, log=keep / EVALUATION_OUTPUT)
                failure = failed(result, competition, tier)
            else:
                result, failure = play(box, competition, instance, split, keep)
        output = join_output(result.head, result.tail, result.omitted, wording.RECORD_OF_EPISODE)
        instance.repair(split)  # of the answers, too, which the scorer reads next
        if failure is not None:
            score = failure
        elif competition.oracle is not None:
            score = score_artefacts(keep / ARTEFACTS, competition, instance, split)
        else:
            artefacts = fresh.root / ARTEFACTS
            score = collect_and_score(artefacts, keep / ARTEFACTS, competition, instance, split)
    finally:
        with logged("removing the copy of an evaluation"):
            remove_scratch(scratch)
    score = dataclasses.replace(
        score,
        split=split,
        wall_seconds=result.wall_seconds,
        cpu_seconds=result.cpu_seconds,
        peak_memory_bytes=result.peak_memory_bytes,
        logical_lines=lines,
        logical_lines_single=single,
    )
    return Evaluation(score, fresh.scrub(output), kept)


def score_artefacts(artefacts: Path, competition: Competition, instance: Instance, split: Split) -> Score:
    """Score collected artefacts in a trusted child process.

    Args:
        artefacts: A folder that `collect` made.
        competition: The competition, which defines the scorer.
        instance: The instance, which has the answers.
        split: "dev" or "test".

    Returns:
        A score with value, details, improvement and errors, or an invalid score with the reason.

    Raises:
        ScoringError: The scorer crashed, ran out of time, or returned something that is not a score.
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
    gain = improvement(score.value, tier.anchors[split])
    rung = standing(gain, split, competition.ladder_of(instance.tier))
    noise = improvement_error(score.error, tier.anchors[split])
    return dataclasses.replace(score, improvement=gain, improvement_error=noise, rung=rung)


def collect_and_score(
    artefacts: Path, kept: Path, competition: Competition, instance: Instance, split: Split
) -> Score:
    """Copy the declared artefacts out of a folder that may hold anything, and score the copy.

    Args:
        artefacts: The folder that agent code wrote, or one from a record; neither is trusted.
        kept: New folder for the copy.
        competition: The competition, which declares the artefacts and defines the scorer.
        instance: The instance, which has the answers.
        split: "dev" or "test".

    Raises:
        ScoringError: The scorer failed.
    """
    try:
        collect(artefacts, kept, competition.card.artefacts_of(instance.tier))
    except SubmissionError as error:
        return Score.invalid(str(error))
    return score_artefacts(kept, competition, instance, split)
