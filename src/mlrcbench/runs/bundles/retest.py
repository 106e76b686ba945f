"""Retest: what the final state of each episode is worth on instances that its agent has never seen.

The files that were scored on test are evaluated again, as the agent's own evaluation was, on fresh
instances under a secret that the agent's author does not know. A method that holds answers, or that was
lucky, loses there what it had; an honest one keeps it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mlrcbench.aggregates import SUCCESS, Interval, bootstrap, mean_of_all, student_interval
from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.installation import PUBLIC_SECRET
from mlrcbench.catalog.instances import Instance
from mlrcbench.catalog.registry import get_competition
from mlrcbench.env.evaluation import evaluate, workspace_of
from mlrcbench.errors import CardError, RecordError, RegistryError
from mlrcbench.runs.bundles.opened import Bundle
from mlrcbench.runs.results import Result
from mlrcbench.score import Score
from mlrcbench.storage.layout import EVALUATED_WORKSPACE
from mlrcbench.storage.record import Header, kept_folder, read_record
from mlrcbench.storage.temporary import scratch
from mlrcbench.storage.workspace import Workspace

# Seeds from here on are used for retests; runs begin at 0.
FIRST_SEED = 1_000_000
# How far a public score may be above what fresh instances show.
MARGIN = SUCCESS
Verdict = Literal["holds", "unclear", "overstated", "not retested"]


@dataclass(frozen=True, slots=True)
class Retest:
    """The retest of one episode.

    Attributes:
        name: Name of the episode.
        competition: Id of its competition.
        public: The improvement on test that the bundle claims.
        again: The improvement on each fresh instance; 0, the baseline's, where the score is not valid.
        invalid: On how many instances the score is not valid.
        reason: Why it was not retested; empty if it was. It then counts as the baseline on every instance,
            so that nobody gains by making a bad episode unfit for a retest. Only if no episode of its
            competition can be retested, for example since the tier has real data, `again` is empty.
    """

    name: str
    competition: str
    public: float
    again: tuple[float, ...] = ()
    invalid: int = 0
    reason: str = ""

    @property
    def mean(self) -> Interval | None:
        """The mean over fresh instances, with its 95 % interval; None without a retest."""
        return student_interval(self.again) if len(self.again) > 1 else None

    @property
    def difference(self) -> Interval | None:
        """The public improvement minus that mean, with its 95 % interval; None without a retest."""
        if (mean := self.mean) is None:
            return None
        ends = (self.public - mean.upper, self.public - mean.lower)
        return Interval(self.public - mean.value, *ends, mean.level)

    @property
    def verdict(self) -> Verdict:
        """What the difference says of the public score.

        "overstated": it is above the mean by more than `MARGIN`, with 95 % confidence. "unclear": it is,
        but so few instances do not exclude chance. "holds": it is not.
        """
        difference = self.difference
        if self.reason or difference is None:
            return "not retested"
        if difference.value <= MARGIN:
            return "holds"
        return "overstated" if difference.lower > MARGIN else "unclear"

    @property
    def as_good(self) -> int:
        """On how many fresh instances the improvement is within `MARGIN` of the public one, or above."""
        return sum(value >= self.public - MARGIN for value in self.again)


@dataclass(frozen=True, slots=True)
class RetestSummary:
    """Means over competitions with equal weights, each with a 95 % interval by bootstrap.

    Attributes:
        public: Of the public improvements; episodes are drawn.
        again: Of the improvements on fresh instances; pairs of an episode and an instance are drawn.
        difference: Of the public improvement minus that on a fresh instance, for each such pair.
    """

    public: Interval
    again: Interval
    difference: Interval


def retest(
    bundle: Bundle,
    *,
    instances: int = 5,
    secret: str | None = None,
    sandbox: str = "auto",
) -> list[Retest]:
    """Evaluate the final state of each episode on fresh instances.

    Args:
        bundle: See `open_bundle`.
        instances: How many fresh instances; at least 2. All episodes of a competition get the same ones.
        secret: The secret of the fresh instances: the board's own text, or None for this installation's.
        sandbox: Kind of sandbox in which the agent's code runs.

    Raises:
        RecordError: The secret is the public one, or an episode of the bundle has a fresh instance.
        SandboxError, ScoringError, DataError: The infrastructure failed.
    """
    if instances < 2:
        raise RecordError("a retest needs at least 2 instances, or it has no interval; take 5 or more")
    if secret == PUBLIC_SECRET:
        raise RecordError("a retest needs a secret that agents do not know; the public one is known to all")
    fresh: dict[tuple[str, str], list[Instance]] = {}
    retests = []
    for result in bundle.results:
        name, competition_id = result.assignment.name, result.assignment.competition
        if result.record is None or result.test is None or result.test["outcome"] != "scored":
            why = "it has no valid final score, and counts as the baseline"
            retests.append(Retest(name, competition_id, result.improvement, (0.0,) * instances, reason=why))
            continue
        try:
            competition, header, workspace = _final_state(result, result.record)
        except (RecordError, RegistryError, CardError) as error:
            retests.append(Retest(name, competition_id, result.improvement, reason=str(error)))
            continue
        key = (competition.id, header.tier)
        if key not in fresh:
            seeds = range(FIRST_SEED, FIRST_SEED + instances)
            fresh[key] = [competition.instance(seed, header.tier, secret=secret) for seed in seeds]
        scores = [_evaluate(competition, header, workspace, one, sandbox) for one in fresh[key]]
        again = tuple(score.improvement or 0.0 for score in scores)
        invalid = sum(not score.valid for score in scores)
        retests.append(Retest(name, competition_id, result.improvement, again, invalid))
    tested = {one.competition for one in retests if not one.reason}
    return [
        dataclasses.replace(one, again=(0.0,) * instances)
        if one.reason and one.competition in tested
        else one
        for one in retests
    ]


def summarise_retests(retests: Iterable[Retest]) -> RetestSummary | None:
    """The means over all episodes with scores on fresh instances; None without any."""
    public: dict[str, list[float]] = {}
    again: dict[str, list[float]] = {}
    difference: dict[str, list[float]] = {}
    for one in retests:
        if one.again:
            public.setdefault(one.competition, []).append(one.public)
            again.setdefault(one.competition, []).extend(one.again)
            differences = [one.public - value for value in one.again]
            difference.setdefault(one.competition, []).extend(differences)
    if not public:
        return None
    return RetestSummary(*(bootstrap(scores, mean_of_all) for scores in (public, again, difference)))


def _final_state(result: Result, place: str) -> tuple[Competition, Header, Workspace]:
    """The files of an episode that were scored on test, as a workspace of its competition.

    Raises:
        RecordError: The record has no such files, or its competition no fresh instances here.
        RegistryError, CardError: Its competition or tier does not exist here.
    """
    record = read_record(result.folder / place)
    header = record.header
    if header.competition != result.assignment.competition:
        raise RecordError("its record is of another competition than the plan says")
    competition = get_competition(header.competition)
    if competition.card.tier(header.tier).sources:
        raise RecordError("its tier has real data, and so only one instance")
    if competition.card.version != header.competition_version:
        here, there = competition.card.version, header.competition_version
        raise RecordError(f"{competition.id} has version {here} here, and there {there}")
    tests = [row for row in record.evaluations if row.split == "test" and row.by == "agent"]
    folder = kept_folder(record, tests[-1], EVALUATED_WORKSPACE) if tests else None
    if folder is None:
        raise RecordError("the files that were scored on test are missing")
    return competition, header, workspace_of(competition, header.tier, folder)


def _evaluate(
    competition: Competition, header: Header, workspace: Workspace, instance: Instance, sandbox: str
) -> Score:
    if instance.digest == header.instance_digest:
        raise RecordError(
            "the agent has seen the fresh instance; name a file with a secret that its author does not know"
        )
    with scratch("retest") as folder:
        keep = folder / "evaluation"
        return evaluate(workspace, competition, instance, "test", sandbox=sandbox, keep=keep).score
