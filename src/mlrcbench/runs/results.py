"""Results of episodes: what they hold, and how they are written to a run's directory and read from it.

    result.json         how the episode went in the end
    attempt-1.json      how its first attempt went, if the infrastructure failed after the agent had acted
    attempt.json        written before an attempt begins: the records that were there by then
    acted               written before the agent's first action in that attempt

A directory may come from somebody else, or may have been left behind by a crash: a result that cannot be
read is named in a warning, and its episode counts as one without a result.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlrcbench.aggregates import succeeded
from mlrcbench.errors import RecordError, shortened
from mlrcbench.llm import Usage
from mlrcbench.runs.plan import EPISODES, Assignment, read_assignments
from mlrcbench.score import Score
from mlrcbench.storage.durable import replace_text, sync_folder
from mlrcbench.storage.record import EvaluationRecord, Header, StepRecord, read_rows
from mlrcbench.storage.strict import bounds, json_list, open_regular, parse_object, read_dataclass
from mlrcbench.text import one_line, percent

RESULT = "result.json"
ATTEMPT = "attempt.json"
ACTED = "acted"
RECORDS = "records"
ATTEMPTS = 2
Outcome = Literal["played", "agent failed", "infrastructure failed", "missing"]
_MAX_BYTES = 64 << 20
_MAX_IMPROVEMENT = 1e100  # so that means and variances are finite
_MAX_COST = 1e12  # so that sums are finite
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """How one episode went.

    Attributes:
        assignment: Which episode.
        outcome: "played" to its end; "agent failed" (its program broke off); "infrastructure failed"
            (sandbox, scorer, data, node, or the episode's process); "missing" (planned, but without a
            result).
        reason: Why it failed; empty if it was played.
        folder: The folder of its record and log.
        test: The final score as `Score.to_json` writes it; None if it has no final score.
        dev: The scores of its evaluations on dev, in order, as `Score.to_json` writes them.
        steps: How many steps it took.
        seconds: Wall time, building its instance included.
        record: Path of its record below the folder.
        usage: What its language model used in this try, if it has one: "prompt" and "completion" tokens,
            "money" in US dollars (None without a price), and whether tokens are "estimated".
        limit: Of an attempt that the infrastructure ended after the agent had acted: the improvement that
            the agent had shown on dev by then, 0 without a valid score. None for any other result.
        attempts: Earlier attempts that the infrastructure ended after the agent had acted.
    """

    assignment: Assignment
    outcome: Outcome
    reason: str
    folder: Path
    test: dict[str, Any] | None = None
    dev: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    record: str | None = None
    usage: dict[str, Any] | None = None
    limit: float | None = None
    attempts: tuple[Result, ...] = ()

    def __repr__(self) -> str:
        one = self.assignment
        which = f"{one.agent}, {one.competition}, instance {one.instance}, trial {one.trial}"
        gain = percent(self.improvement, self.improvement_error)
        reason = f" ({shortened(one_line(self.reason))})" if self.reason else ""
        return f"<Result of {which}: {self.outcome}{reason}, {gain}>"

    @property
    def improvement(self) -> float:
        """The improvement on test; 0, the baseline's, without a valid score on test, for whatever reason.

        After an attempt that the infrastructure ended it is at most that attempt's `limit`, so that no
        agent gains anything from another attempt.
        """
        value = self.test["improvement"] if self.test else None
        return self.bounded(0.0 if value is None else float(value))

    @property
    def improvement_error(self) -> float | None:
        """The standard error of the improvement; None if it is not known, or without a valid score."""
        value = self.test.get("improvement_error") if self.test else None
        return None if value is None else float(value)

    @property
    def succeeded(self) -> bool:
        """Whether it is a success beyond its noise; see `aggregates.succeeded`."""
        return succeeded(self.improvement, self.improvement_error)

    def bounded(self, improvement: float) -> float:
        """An improvement, or what failed attempts had shown, if that was less."""
        limits = (one.limit for one in (self, *self.attempts) if one.limit is not None)
        return min([improvement, *limits])

    @property
    def is_final(self) -> bool:
        """Whether the episode is not played again: it has an end, or no attempt is left."""
        failed = self.outcome == "infrastructure failed"
        return not failed or (self.limit is not None and len(self.attempts) + 1 >= ATTEMPTS)

    @property
    def infrastructure_failed(self) -> bool:
        """Whether the infrastructure failed in the episode, in the end or in an attempt that counts."""
        return bool(self.attempts) or self.outcome in ("infrastructure failed", "missing")


@dataclass(frozen=True, slots=True)
class _Stored:
    """The entries of a result's file; see `Result`."""

    assignment: Assignment
    outcome: Outcome
    reason: str = ""
    test: Score | None = None
    dev: tuple[Score, ...] = ()
    steps: int = 0
    seconds: float = 0.0
    record: str | None = None
    usage: Usage | None = None
    limit: float | None = field(default=None, metadata=bounds(least=-float("inf")))


def read_result(folder: Path) -> Result | None:
    """The result in an episode's folder; None if the episode has none that can be read."""
    result = _read(folder, folder / RESULT)
    if result is None:
        return None
    attempts = (_read(folder, folder / f"attempt-{number}.json") for number in range(1, ATTEMPTS))
    return dataclasses.replace(result, attempts=tuple(one for one in attempts if one is not None))


def read_results(directory: str | Path) -> list[Result]:
    """The results of a run, ordered by name: of all episodes of its plan, and of those played before.

    An episode of the plan without a result, for example because the run has not played it yet, is "missing".

    Raises:
        RunError: The directory holds no run.
    """
    root = Path(directory)
    results = {
        one.name: Result(one, "missing", "the episode has no result", root / EPISODES / one.name)
        for one in read_assignments(root)
    }
    for folder in sorted((root / EPISODES).glob("*")):
        if (result := read_result(folder)) is not None:
            results[result.assignment.name] = result
    return [results[name] for name in sorted(results)]


def write_result(result: Result) -> None:
    """Write a result to its folder, after its record was brought to the disk.

    Raises:
        OSError: It cannot be written.
    """
    entries = {entry.name: getattr(result, entry.name) for entry in dataclasses.fields(_Stored)}
    entries["assignment"] = dataclasses.asdict(result.assignment)
    replace_text(result.folder / RESULT, json.dumps(entries, indent=1) + "\n")


def begin_attempt(folder: Path) -> None:
    """Make an episode's folder ready for an attempt, and write down that it begins.

    A failed attempt in which the agent had acted is kept, under another name.

    Raises:
        OSError: The folder cannot be changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = read_result(folder)
    if before is not None and before.limit is not None and not before.is_final:
        os.replace(folder / RESULT, folder / f"attempt-{len(before.attempts) + 1}.json")
    (folder / RESULT).unlink(missing_ok=True)
    (folder / ACTED).unlink(missing_ok=True)
    names = sorted(path.name for path in (folder / RECORDS).glob("*"))
    replace_text(folder / ATTEMPT, json.dumps({"records": names}) + "\n")


def note_action(folder: Path) -> None:
    """Write down that the agent acts in the attempt that is being played."""
    if not (folder / ACTED).exists():
        (folder / ACTED).touch()
        sync_folder(folder)


def is_broken_off(folder: Path) -> bool:
    """Whether an attempt has begun and has no result: it is being played, or its run was killed."""
    return (folder / ATTEMPT).exists() and not (folder / RESULT).exists()


def withdraw_attempt(folder: Path) -> None:
    """Let an attempt without a result count as one that never began, since the operator has stopped it."""
    if is_broken_off(folder):
        (folder / ATTEMPT).unlink()


def failed_result(assignment: Assignment, folder: Path, reason: str) -> Result:
    """The result of the attempt that began last and was broken off, from what it has recorded."""
    entries = what_was_recorded(folder, _newest_record(folder), failed=True)
    return Result(assignment, "infrastructure failed", reason, folder, **entries)


def _newest_record(folder: Path) -> Path | None:
    """The record of the attempt that began last; None if it has none yet."""
    try:
        with open_regular(folder / ATTEMPT, _MAX_BYTES) as file:
            before = json_list(parse_object(file.read())["records"])
    except (OSError, ValueError, TypeError, KeyError):
        before = []
    records = sorted(path for path in (folder / RECORDS).glob("*") if path.name not in before)
    return records[-1] if records else None


def what_was_recorded(folder: Path, record: Path | None, *, failed: bool) -> dict[str, Any]:
    """The entries of a result that follow from an attempt's record, which may have been broken off.

    Args:
        folder: The episode's folder.
        record: The record; None if the episode did not begin.
        failed: Whether the infrastructure ended the attempt.
    """
    evaluations: list[EvaluationRecord] = []
    steps, final = 0, "best"
    if record is not None:
        try:
            for row in read_rows(record, max_bytes=1 << 50):  # our own record, of which little is kept
                steps += isinstance(row, StepRecord)
                final = row.final if isinstance(row, Header) else final
                if isinstance(row, EvaluationRecord):
                    evaluations.append(row)
        except RecordError as error:
            _log.warning("%s", error)
    dev = [row.score for row in evaluations if row.split == "dev" and row.by == "agent"]
    test = next((row.score for row in evaluations if row.split == "test" and row.by == "agent"), None)
    return {
        "test": None if test is None or failed else test.to_json(),
        "dev": [score.to_json() for score in dev],
        "steps": steps,
        "record": None if record is None else f"{RECORDS}/{record.name}",  # `folder` may lie behind a link
        "limit": _limit(dev, test, final) if failed and (folder / ACTED).exists() else None,
    }


def _limit(dev: list[Score], test: Score | None, final: str) -> float:
    """What the agent would have had if it had stopped: its best or its last score on dev, or that on test."""
    valid = [score.improvement for score in dev if score.improvement is not None]
    shown = max(valid, default=0.0) if final == "best" else ([0.0] + [s.improvement or 0.0 for s in dev])[-1]
    return shown if test is None else min(shown, test.improvement or 0.0)


def _read(folder: Path, path: Path) -> Result | None:
    try:
        with open_regular(path, _MAX_BYTES) as file:
            stored = read_dataclass(_Stored, parse_object(file.read()))
        if stored.record is not None and not _is_record(stored.record):
            raise ValueError("its record does not lie in its folder")
        scores = stored.dev if stored.test is None else (stored.test, *stored.dev)
        figures = [one for score in scores for one in (score.improvement, score.improvement_error)]
        if any(abs(figure or 0.0) > _MAX_IMPROVEMENT for figure in figures):
            raise ValueError("a score in it is too large")
        money = stored.usage.money if stored.usage else None
        if max(abs(stored.seconds), abs(money or 0.0)) > _MAX_COST:
            raise ValueError("its seconds or its cost are too large")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        _log.warning("%s cannot be read (%s); its episode counts as not played", path, error)
        return None
    entries = {entry.name: getattr(stored, entry.name) for entry in dataclasses.fields(_Stored)}
    entries["test"] = None if stored.test is None else stored.test.to_json()
    entries["dev"] = [score.to_json() for score in stored.dev]
    entries["usage"] = None if stored.usage is None else dataclasses.asdict(stored.usage)
    return Result(folder=folder, **entries)


def _is_record(record: str) -> bool:
    """Whether a path is that of a folder directly below the episode's records."""
    parts = Path(record).parts
    return len(parts) == 2 and parts[0] == RECORDS and parts[1] != ".." and record == "/".join(parts)
