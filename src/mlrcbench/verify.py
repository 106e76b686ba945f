"""Verify: what a record claims, checked by replay and by scoring again.

A replay plays the recorded actions in a fresh environment and compares every observation's
body and every score; times are not compared. Scoring again takes the kept artefacts to the
scorer once more, without running any agent code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlrcbench.artefacts import collect
from mlrcbench.competition import Competition, Instance
from mlrcbench.env import ResearchEnv
from mlrcbench.errors import RecordError, SubmissionError
from mlrcbench.evaluation import score_artefacts
from mlrcbench.record import Record, read_record, replayable
from mlrcbench.registry import get_competition
from mlrcbench.score import Score
from mlrcbench.scratch import scratch
from mlrcbench.workspace import ARTEFACTS


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay found.

    Attributes:
        steps: How many steps were played.
        difference: Where it first differs from the record, in words; None if nowhere.
        record: Directory of the replay's own record.
    """

    steps: int
    difference: str | None
    record: Path


@dataclass(frozen=True, slots=True)
class Rescore:
    """One evaluation scored again: its folder, the recorded score, the new one.

    `again` is None where no artefacts were kept because the evaluation left none.
    """

    folder: str
    recorded: Score
    again: Score | None

    @property
    def matches(self) -> bool:
        """Whether both say the same."""
        return self.again is None or _judgement(self.recorded) == _judgement(self.again)


def replay(
    directory: str | Path,
    *,
    sandbox: str | None = None,
    secret: str | None = None,
    records: str | Path | None = None,
) -> Replay:
    """Play a record's actions again and compare.

    Args:
        directory: A record.
        sandbox: Another sandbox than the recorded one.
        secret: Of the instance, if it was your own text.
        records: Folder for the replay's own record; by default beside the recorded one.

    Raises:
        RecordError: It cannot be replayed here: another version or instance.
    """
    record = read_record(Path(directory))
    competition, instance = _instance(record, secret)
    header = record.header
    env = ResearchEnv(
        competition,
        tier=header["tier"],
        sandbox=sandbox or header["sandbox"],
        reward=header["reward"],
        clip=tuple(header["clip"]) if header["clip"] else None,
        instances=[instance.seed],
        budget=header["budget"],
        final=header["final"],
        secret=_secret_of(record, secret),
        records=records or record.directory.parent,
    )
    try:
        env.reset(seed=header["seed"])
        again = env.record or Path()
        difference = _first_step_that_differs(env, record)
    finally:
        env.close()
    return Replay(len(record.steps), difference or _compare_evaluations(record, read_record(again)), again)


def rescore(directory: str | Path, *, secret: str | None = None) -> list[Rescore]:
    """Score a record's kept artefacts again.

    Args:
        directory: A record.
        secret: Of the instance, if it was your own text.

    Raises:
        RecordError: The instance is not the recorded one.
        ScoringError: The scorer failed.
    """
    record = read_record(Path(directory))
    competition, instance = _instance(record, secret)
    found = []
    for entry in record.evaluations:
        kept = record.directory / entry["folder"] / ARTEFACTS
        again = _score_again(kept, competition, instance, entry["split"]) if kept.exists() else None
        found.append(Rescore(entry["folder"], Score.from_json(entry["score"]), again))
    return found


def _score_again(kept: Path, competition: Competition, instance: Instance, split: Any) -> Score:
    """A kept folder is no more trusted than a fresh one: collect it again."""
    with scratch("score") as folder:
        clean = folder / ARTEFACTS
        try:
            collect(kept, clean, competition.card.artefacts_of(instance.tier))
        except SubmissionError as error:
            return Score.invalid(str(error))
        return score_artefacts(clean, competition, instance, split)


def _instance(record: Record, secret: str | None) -> tuple[Competition, Instance]:
    """The competition and the instance of a record, if they are the same here."""
    header = record.header
    competition = get_competition(header["competition"])
    version = competition.card.version
    if version != header["competition_version"]:
        raise RecordError(
            f"the record is of {competition.id} version {header['competition_version']}, "
            f"this library has version {version}; install the version of mlrcbench that made it, "
            f"{header['mlrcbench']}"
        )
    instance = competition.instance(header["instance"], header["tier"], secret=_secret_of(record, secret))
    if instance.digest != header["instance_digest"]:
        raise RecordError(
            f"instance {instance.seed} of {competition.id} is not the recorded one here; it was built from "
            f"another secret ({header['secret']}) or by another version of its generator"
        )
    return competition, instance


def _secret_of(record: Record, secret: str | None) -> str | None:
    if secret is None and record.header["secret"] == "own":
        raise RecordError("the record's instance was built from a secret of your own; pass it as secret=")
    return "public" if record.header["secret"] == "public" else secret


def _first_step_that_differs(env: ResearchEnv, record: Record) -> str | None:
    """Play the steps; where an observation or a reward differs first, if one does."""
    for entry in record.steps:
        _, reward, _, _, _ = env.step(replayable(entry["action"]))
        body = read_record(env.record or Path()).steps[-1]["body"]
        if body != entry["body"]:
            return f"step {entry['step']}: {_first_difference(entry['body'], body)}"
        if reward != entry["reward"]:
            return f"step {entry['step']}: the reward was {entry['reward']}, now {reward}"
    return None


def _compare_evaluations(record: Record, again: Record) -> str | None:
    """Where the agent's evaluations differ; those of the host are not repeated."""
    old = [entry for entry in record.evaluations if entry["by"] == "agent"]
    new = [entry for entry in again.evaluations if entry["by"] == "agent"]
    if len(old) != len(new):
        return f"there were {len(old)} evaluations, now there are {len(new)}"
    for left, right in zip(old, new, strict=True):
        if _judgement(Score.from_json(left["score"])) != _judgement(Score.from_json(right["score"])):
            return f"{left['folder']}: the score was {left['score']}, now {right['score']}"
    return None


def _judgement(score: Score) -> tuple[Any, ...]:
    """What must be equal: all but the resources."""
    return (score.value, score.outcome, score.reason, dict(score.details))


def _first_difference(old: str, new: str) -> str:
    """The first line in which two texts differ."""
    before, after = old.split("\n"), new.split("\n")
    for number in range(max(len(before), len(after))):
        left = before[number] if number < len(before) else "(nothing)"
        right = after[number] if number < len(after) else "(nothing)"
        if left != right:
            return f"line {number + 1} of the observation was {left[:200]!r}, now {right[:200]!r}"
    return "the observation is the same"
