"""Process metrics: how an agent worked, as opposed to what it reached, from the record of an episode alone.

`docs/metrics.md` defines each of them in words. An agent wrote what is measured here, so these numbers prove
nothing about an agent that wants to look busy; they describe agents that do not know them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from mlrcbench.env.code_shapes import CodeShape, code_shapes
from mlrcbench.errors import ActionError, RegistryError, WorkspaceError
from mlrcbench.protocol.actions import EditFile, WriteFile, parse, replayable
from mlrcbench.runs.changes import kept_texts, starter_texts
from mlrcbench.storage.layout import EVALUATED_WORKSPACE
from mlrcbench.storage.record import EvaluationRecord, Record, StepRecord, kept_folder
from mlrcbench.text import passages, replace_passage

_PYTHON = ".py"
_SIMILAR = 0.5
# What is looked at of a hostile record: characters of one version and of all, files of one, versions.
_VERSION_CHARS = 4_000_000
_TOTAL_CHARS = 64_000_000
_FILES = 500
_VERSIONS = 5_000
_MAX_SECONDS = 1e12  # of a step, so that sums are finite

Files = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ProcessMetrics:
    """How an agent worked in one episode; "evaluations" are those on dev that the agent asked for.

    Attributes:
        first_valid_step: Number of the step with the first valid evaluation; None without one.
        first_valid_seconds: Wall seconds of all steps up to that one; None without one.
        algorithm_changes: Number of steps that changed the code beyond its constants.
        constant_changes: Number of steps that changed only constants of the code.
        algorithm_share: Share of the former in both; None without either.
        approaches: Number of distinct approaches among the versions with a valid evaluation.
        evaluations: Number of evaluations.
        invalid_share: Share of evaluations without a valid score; None without evaluations.
        regressions: Number of valid evaluations after the best one, all of which were worse.
        unused_steps: Share of the budget's steps that was left at the end.
        unused_seconds: The same for seconds; None if the episode did not come to an end.
        unused_evaluations: The same for evaluations; None if the budget has none.
    """

    first_valid_step: int | None
    first_valid_seconds: float | None
    algorithm_changes: int
    constant_changes: int
    algorithm_share: float | None
    approaches: int
    evaluations: int
    invalid_share: float | None
    regressions: int
    unused_steps: float | None
    unused_seconds: float | None
    unused_evaluations: float | None


def process_metrics(record: Record) -> ProcessMetrics:
    """The process metrics of an episode.

    Args:
        record: The episode's record, which may be somebody else's. The starter is taken from the competition
            that is installed here; without it, every file counts as the agent's own.
    """
    evaluations = [row for row in record.evaluations if row.split == "dev" and row.by == "agent"]
    valid = [row for row in evaluations if row.score.valid]
    first = valid[0].after_step if valid else None
    algorithm, constants, approaches = _changes(record, evaluations)
    changes, limits = algorithm + constants, record.header.budget
    seconds = record.footer.seconds if record.footer else None
    return ProcessMetrics(
        first_valid_step=first,
        first_valid_seconds=None if first is None else _seconds_until(record.steps, first),
        algorithm_changes=algorithm,
        constant_changes=constants,
        algorithm_share=algorithm / changes if changes else None,
        approaches=approaches,
        evaluations=len(evaluations),
        invalid_share=1 - len(valid) / len(evaluations) if evaluations else None,
        regressions=_after_best([row.score.improvement or 0.0 for row in valid]),
        unused_steps=_unused(len(record.steps), limits.steps),
        unused_seconds=_unused(seconds, limits.seconds),
        unused_evaluations=_unused(len(evaluations), limits.evaluations),
    )


def mean_metrics(episodes: Sequence[ProcessMetrics]) -> dict[str, float | None]:
    """The mean of each metric over the episodes that have it; None where no episode has it."""
    means: dict[str, float | None] = {}
    for entry in fields(ProcessMetrics):
        values = [value for one in episodes if (value := getattr(one, entry.name)) is not None]
        means[entry.name] = sum(values) / len(values) if values else None
    return means


def _seconds_until(steps: Sequence[StepRecord], number: int) -> float:
    seconds = (min(row.seconds, _MAX_SECONDS) for row in steps if row.step <= number)
    return round(sum(seconds), 3)


def _after_best(improvements: Sequence[float]) -> int:
    """How many values follow the best one; of equal ones the last counts as the best."""
    if not improvements:
        return 0
    best = max(improvements)
    return next(count for count, value in enumerate(reversed(improvements)) if value == best)


def _unused(spent: float | None, limit: float) -> float | None:
    return None if spent is None or limit <= 0 else max(0.0, 1 - spent / limit)


def _changes(record: Record, evaluations: Sequence[EvaluationRecord]) -> tuple[int, int, int]:
    """Steps that changed the algorithm, and those that changed constants; distinct approaches."""
    try:
        texts = starter_texts(record.header)
    except RegistryError:
        texts = {}
    starter = {path: text for path, text in texts.items() if path.endswith(_PYTHON)}
    versions, evaluated = _versions(record, evaluations, starter)
    every = (starter, *versions, *evaluated)
    shapes = code_shapes(["", *(text for version in every for text in version.values())])
    kinds = [_kind(before, after, shapes) for before, after in _pairs(starter, versions, shapes)]
    return kinds.count("algorithm"), kinds.count("constants"), _approaches(starter, evaluated, shapes)


def _versions(
    record: Record, evaluations: Sequence[EvaluationRecord], starter: Files
) -> tuple[list[Files], list[Files]]:
    """The Python files after each step that changed them, and at each valid evaluation.

    Between evaluations only what the file actions do is known; what commands have changed is seen at the
    next evaluation, and counts as a change of that step.
    """
    kept: dict[int, Files] = {}
    valid: list[Files] = []
    chars = 0
    for row in evaluations:
        folder = kept_folder(record, row, EVALUATED_WORKSPACE)
        if folder is not None and chars < _TOTAL_CHARS:
            kept[row.after_step] = _kept_files(folder)
            chars += sum(map(len, kept[row.after_step].values()))
            valid += [kept[row.after_step]] if row.score.valid else []
    versions: list[Files] = []
    files, chars = starter, 0
    for step in record.steps:
        after = kept.get(step.step) or _after_action(step, files)
        if after is files or after == files:
            continue
        chars += sum(len(text) for path, text in after.items() if files.get(path) != text)
        if chars > _TOTAL_CHARS or len(versions) == _VERSIONS:
            break
        versions.append(after)
        files = after
    return versions, valid


def _kept_files(folder: Path) -> Files:
    """The Python files of a kept workspace; none of one that no episode can have left."""
    files: dict[str, str] = {}
    remaining = _VERSION_CHARS
    try:
        for path, text in kept_texts(folder, _PYTHON):
            remaining -= len(text)
            if remaining < 0 or len(files) == _FILES:
                break
            files[path] = text
    except WorkspaceError:
        return {}
    return files


def _after_action(row: StepRecord, files: Files) -> Files:
    """The files after a step, as far as its action tells."""
    try:
        action = parse(replayable(row.action))
    except ActionError:
        return files
    if row.error or not isinstance(action, WriteFile | EditFile) or not action.path.endswith(_PYTHON):
        return files
    path = "/".join(part for part in action.path.split("/") if part not in ("", "."))
    if isinstance(action, WriteFile):
        return {**files, path: action.text} if len(files) < _FILES or path in files else files
    before = files.get(path, "")
    if not action.old or passages(before, action.old) != 1:
        return files  # the file was changed by a command, which is not known yet
    return {**files, path: replace_passage(before, action.old, action.new)}


def _pairs(
    starter: Files, versions: Sequence[Files], shapes: Mapping[str, CodeShape]
) -> Iterator[tuple[Files, Files]]:
    """Each version with the one before it; a file that cannot be parsed counts as it was before."""
    before = starter
    for version in versions:
        after = {
            path: text if text in shapes else before.get(path, "")
            for path, text in version.items()
            if text in shapes or path in before
        }
        yield before, after
        before = after


def _kind(before: Files, after: Files, shapes: Mapping[str, CodeShape]) -> str:
    """What a step changed: the "algorithm", "constants", or "nothing" that a program notices."""
    kind = "nothing"
    for path in before.keys() | after.keys():
        old, new = (shapes.get(side.get(path, "")) for side in (before, after))
        if old is None or new is None:  # nothing could be parsed
            continue
        if old.shape != new.shape:
            return "algorithm"
        if old.tree != new.tree:
            kind = "constants"
    return kind


def _approaches(starter: Files, evaluated: Sequence[Files], shapes: Mapping[str, CodeShape]) -> int:
    """The number of clusters of evaluated versions, by their differences from the starter.

    The differences are the statements that the starter lacks, or, of a version that only removes some, those
    that it removes. A version joins a cluster if it shares half of all differences of the two with its first
    version, and otherwise begins one. A version without differences belongs to none.
    """
    founders: list[frozenset[str]] = []
    base = _statements(starter, shapes)
    for version in evaluated:
        now = _statements(version, shapes)
        differences = now - base or frozenset(f"-{one}" for one in base - now)
        if differences and not any(_are_similar(differences, other) for other in founders):
            founders.append(differences)
    return len(founders)


def _are_similar(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) >= _SIMILAR * len(one | other)


def _statements(files: Files, shapes: Mapping[str, CodeShape]) -> frozenset[str]:
    return frozenset().union(*(shapes[text].statements for text in files.values() if text in shapes))
