"""Replay: checking a record by playing its actions again, and by scoring its artefacts again.

A replay plays the recorded actions in a fresh environment and compares every observation's body and
every score; times are not compared. Scoring again gives the kept artefacts to the scorer, without
running any agent code.

A record may come from somebody else, and replaying it runs the commands in it. So the record does not
choose the sandbox: it is the strongest that works here, unless the caller names another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.instances import Instance
from mlrcbench.catalog.registry import get_competition
from mlrcbench.env.evaluation import collect_and_score
from mlrcbench.env.research_env import ResearchEnv
from mlrcbench.env.settings import Settings
from mlrcbench.errors import RecordError
from mlrcbench.protocol.actions import replayable
from mlrcbench.score import Score
from mlrcbench.storage.layout import ARTEFACTS
from mlrcbench.storage.record import EvaluationRecord, Record, kept_folder, read_record
from mlrcbench.storage.strict import to_json
from mlrcbench.storage.temporary import scratch


@dataclass(frozen=True, slots=True)
class Replay:
    """The result of a replay.

    Attributes:
        steps: Number of steps that the record has.
        difference: Where the replay first differs from the record, in words; None if it does not.
        record: Directory of the replay's own record.
    """

    steps: int
    difference: str | None
    record: Path


@dataclass(frozen=True, slots=True)
class Rescore:
    """The result of scoring one evaluation again.

    Attributes:
        folder: Folder of the evaluation, relative to the record.
        recorded: The recorded score.
        again: The new score; None if the evaluation left no artefacts.
    """

    folder: str
    recorded: Score
    again: Score | None

    @property
    def matches(self) -> bool:
        """Whether both scores say the same."""
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
        sandbox: A kind of sandbox; by default the strongest that works here, whatever the record says.
        secret: Secret of the instance, if it was a text of the user's.
        records: Folder for the replay's record; by default the folder that holds the given record.

    Raises:
        RecordError: The record cannot be replayed here, because the version or the instance differs.
    """
    record = read_record(Path(directory))
    competition, instance = _instance(record, secret)
    settings = settings_of(record, sandbox=sandbox, secret=secret)
    env = ResearchEnv(
        competition,
        instances=[instance.seed],
        records=records or record.directory.parent,
        **settings.to_options(),
    )
    try:
        env.reset(seed=record.header.seed)
        again = env.record or Path()
        difference = _first_step_that_differs(env, record)
    finally:
        env.close()
    return Replay(len(record.steps), difference or _compare_evaluations(record, read_record(again)), again)


def settings_of(record: Record, *, sandbox: str | None = None, secret: str | None = None) -> Settings:
    """The options that a record's episode was made with.

    Args:
        record: The record.
        sandbox: A kind of sandbox; by default "auto", since a record must not choose how its commands run.
        secret: Secret of the instance, if it was a text of the user's.
    """
    header = record.header
    return Settings.read(
        {
            "tier": header.tier,
            "sandbox": sandbox or "auto",
            "budget": to_json(header.budget),
            "secret": _secret_of(record, secret),
            "reward": header.reward,
            "clip": header.clip,
            "final": header.final,
        }
    )


def rescore(directory: str | Path, *, secret: str | None = None) -> list[Rescore]:
    """Score a record's kept artefacts again.

    Args:
        directory: A record.
        secret: Secret of the instance, if it was a text of the user's.

    Raises:
        RecordError: The instance here is not the recorded one.
        ScoringError: The scorer failed.
    """
    record = read_record(Path(directory))
    competition, instance = _instance(record, secret)
    return [_rescore(record, row, competition, instance) for row in record.evaluations]


def _rescore(record: Record, row: EvaluationRecord, competition: Competition, instance: Instance) -> Rescore:
    artefacts = kept_folder(record, row, ARTEFACTS)
    if artefacts is None:
        return Rescore(row.folder, row.score, None)
    with scratch("score") as folder:
        score = collect_and_score(artefacts, folder / ARTEFACTS, competition, instance, row.split)
    return Rescore(row.folder, row.score, score)


def _instance(record: Record, secret: str | None) -> tuple[Competition, Instance]:
    """The competition and the instance of a record, if they are the same here."""
    header = record.header
    competition = get_competition(header.competition)
    version = competition.card.version
    if version != header.competition_version:
        raise RecordError(
            f"the record was made with {competition.id} version {header.competition_version}, "
            f"this library has version {version}; install the version of mlrcbench that made it, "
            f"{header.mlrcbench}"
        )
    instance = competition.instance(header.instance, header.tier, secret=_secret_of(record, secret))
    if instance.digest != header.instance_digest:
        raise RecordError(
            f"instance {instance.seed} of {competition.id} is not the recorded one; it was built from "
            f"another secret ({header.secret}) or by another version of the generator"
        )
    return competition, instance


def _secret_of(record: Record, secret: str | None) -> str | None:
    if secret is None and record.header.secret == "own":
        raise RecordError("the record's instance was built from your own secret; pass it as secret=")
    return "public" if record.header.secret == "public" else secret


def _first_step_that_differs(env: ResearchEnv, record: Record) -> str | None:
    """Play the steps; returns where an observation or a reward first differs, or None."""
    for row in record.steps:
        _, reward, _, _, _ = env.step(replayable(row.action))
        assert env.observation is not None
        body = env.observation.body
        if body != row.body:
            return f"step {row.step}: {_first_difference(row.body, body)}"
        if reward != row.reward:
            return f"step {row.step}: the reward was {row.reward}, now {reward}"
    return None


def _compare_evaluations(record: Record, again: Record) -> str | None:
    """Where the agent's evaluations first differ, or None; evaluations by the host are not repeated."""
    recorded, replayed = ([row for row in side.evaluations if row.by == "agent"] for side in (record, again))
    if len(recorded) != len(replayed):
        return f"there were {len(recorded)} evaluations, now there are {len(replayed)}"
    for old, new in zip(recorded, replayed, strict=True):
        if _judgement(old.score) != _judgement(new.score):
            return f"{old.folder}: the score was {to_json(old.score)}, now {to_json(new.score)}"
    return None


def _judgement(score: Score) -> tuple[Any, ...]:
    """The parts of a score that must be equal: everything but the resources."""
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
