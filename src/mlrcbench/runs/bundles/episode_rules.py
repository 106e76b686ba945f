"""The rules that the record of one episode of a bundle must keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.registry import get_competition
from mlrcbench.env.evaluation import workspace_of
from mlrcbench.errors import CardError, RegistryError, WorkspaceError
from mlrcbench.runs.bundles.policy import AcceptancePolicy
from mlrcbench.runs.results import Result
from mlrcbench.storage.layout import EVALUATED_WORKSPACE, STATEMENT
from mlrcbench.storage.record import EvaluationRecord, Record, kept_folder
from mlrcbench.storage.strict import open_regular
from mlrcbench.storage.trees import hash_tree

_MAX_STARTER_BYTES = 64 << 20

Rules = Iterator[tuple[str, str]]


def rules_of_episode(result: Result, record: Record, policy: AcceptancePolicy) -> Rules:
    """Name of each rule, and how the episode breaks it; empty if it keeps the rule."""
    header = record.header
    yield "ended", "" if record.footer else "its record has no end"
    yield "assignment", _assignment(result, record)
    yield "tier", _accepted("tier", header.tier, policy.tiers)
    yield "isolation", _accepted("isolation", header.isolation.tier, policy.isolation)
    yield "secret", _accepted("secret of the instance", header.secret, policy.secrets)
    yield "final", _accepted("choice of the final state", header.final, policy.final)
    begun = header.parent is not None and not policy.branches
    yield "branch", "it began from a snapshot, and the board accepts only whole episodes" if begun else ""
    yield "order", _order(record)
    yield "final state", _final_state(record)
    try:
        competition = get_competition(header.competition)
        competition.card.tier(header.tier)
    except (RegistryError, CardError) as error:
        yield "version", str(error)
        return
    here, there = competition.card.version, header.competition_version
    yield "version", "" if here == there else f"{competition.id} has version {here} here, and there {there}"
    yield "budget", _budget(record, competition, policy)
    yield "protected files", _protected(record, competition)


def _accepted(what: str, value: str, accepted: tuple[str, ...]) -> str:
    return (
        ""
        if value in accepted
        else f"its {what} is {value[:100]!r}, and the board accepts {', '.join(accepted)}"
    )


def _assignment(result: Result, record: Record) -> str:
    """Whether the record is that of the episode that the plan has."""
    one, header = result.assignment, record.header
    planned = (one.competition, one.instance, one.trial)
    if planned != (header.competition, header.instance, header.seed):
        return "its record is of another competition, instance or trial than the plan says"
    return ""


def _order(record: Record) -> str:
    """Whether the rows of the record can be those of one episode."""
    if [row.step for row in record.steps] != list(range(1, len(record.steps) + 1)):
        return "its steps are not numbered from 1"
    if any(row.terminated or row.truncated_by for row in record.steps[:-1]):
        return "it continues after its end"
    tests = [row for row in record.evaluations if row.split == "test"]
    if any(row.by != "agent" for row in record.evaluations):
        return "the host program evaluated the agent's work, and could tell the agent the score"
    if len(tests) > 1 or any(row.after_step != len(record.steps) for row in tests):
        return "it was scored on test more than once, or before its end"
    if len({row.folder for row in record.evaluations}) != len(record.evaluations):
        return "two of its evaluations have the same files"
    return ""


def _final_state(record: Record) -> str:
    """Whether the files that were scored on test are those of the best evaluation on dev."""
    if record.header.final != "best":
        return ""
    valid = [row for row in record.evaluations if row.split == "dev" and row.score.improvement is not None]
    tests = [row for row in record.evaluations if row.split == "test"]
    if not (valid and tests):
        return ""
    best = max(enumerate(valid), key=lambda pair: (pair[1].score.improvement or 0.0, pair[0]))[1]
    try:
        if _digest(record, best) != _digest(record, tests[0]):
            return "the files that were scored on test are not those of its best evaluation on dev"
    except WorkspaceError as error:
        return f"its evaluated files cannot be compared: {error}"
    return ""


def _digest(record: Record, row: EvaluationRecord) -> str | None:
    folder = kept_folder(record, row, EVALUATED_WORKSPACE)
    return None if folder is None else hash_tree(folder)


def _budget(record: Record, competition: Competition, policy: AcceptancePolicy) -> str:
    """Whether the budget is the card's, and was kept."""
    limits, card = record.header.budget, competition.card.tier(record.header.tier).budget
    larger = (
        limits.steps > card.steps or limits.seconds > card.seconds or limits.evaluations > card.evaluations
    )
    if larger and not policy.larger_budgets:
        return "its budget is larger than that of the competition's card"
    evaluations = sum(row.split == "dev" for row in record.evaluations)
    if len(record.steps) > limits.steps or evaluations > limits.evaluations:
        return "it has more steps or evaluations than its budget"
    if sum(row.seconds for row in record.steps[:-1]) > limits.seconds:
        return "its steps took longer than its budget"
    return ""


def protected_files(competition: Competition, tier: str) -> dict[str, bytes]:
    """Path -> content of the files that an agent must not change: the statement, and parts of the starter."""
    workspace = workspace_of(competition, tier, Path())
    files = {
        path: content for path, content in workspace.starter_files.items() if not workspace.is_editable(path)
    }
    return {**files, STATEMENT: competition.statement_of(tier).encode("utf-8")}


def _protected(record: Record, competition: Competition) -> str:
    """Whether the protected files of all evaluated workspaces are those of the starter."""
    protected = protected_files(competition, record.header.tier)
    for row in record.evaluations:
        folder = kept_folder(record, row, EVALUATED_WORKSPACE)
        if folder is None:
            if row.score.valid:
                return f"{row.folder} has a score, but not the files that were scored"
            continue
        for path, content in protected.items():
            try:
                with open_regular(folder / path, _MAX_STARTER_BYTES) as file:
                    if file.read() == content:
                        continue
            except (OSError, ValueError):
                pass
            return f"{row.folder} has another {path} than the starter, and {path} is protected"
    return ""
