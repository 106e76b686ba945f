"""Entries of a board: what it shows of one bundle, and of the checks that this board made of it."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from mlrcbench.errors import RecordError, cause
from mlrcbench.runs.bundles.agent_card import AgentCard
from mlrcbench.runs.bundles.opened import Bundle
from mlrcbench.runs.bundles.retest import Retest
from mlrcbench.runs.bundles.verify import Check
from mlrcbench.runs.changes import changes
from mlrcbench.runs.process_metrics import ProcessMetrics, mean_metrics, process_metrics
from mlrcbench.runs.results import Result
from mlrcbench.storage.record import read_record
from mlrcbench.storage.strict import json_list, open_regular, parse_object, read_dataclass

Row = TypeVar("Row")
ID_CHARS = 16
_MAX_BYTES = 64 << 20
_MAX_EPISODES = 10_000


@dataclass(frozen=True, slots=True)
class BoardEntry:
    """One entry.

    Attributes:
        id: Beginning of the bundle's digest; it names the entry in links.
        file: Name of the bundle's file.
        agent: Name of the agent in its run.
        card: Who made the agent; None if they did not say.
        public: Label of a competition -> improvements on test that the bundle claims.
        retested: Label of a competition -> improvements on fresh instances; None without a retest.
        verdicts: Verdict of the retest -> number of episodes.
        failed: Sentences of the checks that failed; None without a verification.
        isolation: Kinds of isolation of its episodes.
        costs: "seconds", and if known "tokens" and "money" in US dollars: means per episode.
        process: Process metric -> mean over episodes.
        invalid: Number of episodes without a valid final score.
        code: Digests of what its episodes changed in the starter in the end, without those that changed
            nothing; entries with the same digest have the same code.
    """

    id: str
    file: str
    agent: str
    card: AgentCard | None
    public: Mapping[str, list[float]]
    retested: Mapping[str, list[float]] | None
    verdicts: Mapping[str, int]
    failed: tuple[str, ...] | None
    isolation: tuple[str, ...]
    costs: Mapping[str, float]
    process: Mapping[str, float | None]
    invalid: int
    code: tuple[str, ...]

    @property
    def title(self) -> str:
        """The agent's name, as a board shows it."""
        return self.card.name if self.card else self.agent


def read_entry(bundle: Bundle) -> BoardEntry:
    """The entry of a bundle, with what lies beside it: the retest and the verification of this very bundle.

    Raises:
        RecordError: The bundle has no episode or very many, or a file beside it cannot be read.
    """
    if not 1 <= len(bundle.results) <= _MAX_EPISODES:
        raise RecordError(f"a board shows bundles of 1 to {_MAX_EPISODES:,} episodes")
    episodes = [_read_episode(one) for one in bundle.results]
    labels = {one.competition: one.competition for one in episodes}
    labels.update({one.competition: one.label for one in episodes if one.label})
    public: dict[str, list[float]] = {}
    for result in bundle.results:
        public.setdefault(labels[result.assignment.competition], []).append(result.improvement)
    retests = _beside(bundle, "retest", "episodes", Retest)
    checks = _beside(bundle, "verify", "checks", Check)
    retested: dict[str, list[float]] = {}
    for test in retests or ():
        if test.competition in labels and test.again:
            retested.setdefault(labels[test.competition], []).extend(test.again)
    return BoardEntry(
        id=bundle.digest[:ID_CHARS],
        file=bundle.path.name,
        agent=bundle.manifest.agent,
        card=bundle.manifest.card,
        public=public,
        retested=retested or None,
        verdicts=dict(Counter(test.verdict for test in retests or ())),
        failed=None if checks is None else _sentences(checks),
        isolation=tuple(sorted({one.isolation for one in episodes if one.isolation})),
        costs=_costs(bundle.results),
        process=mean_metrics([one.metrics for one in episodes if one.metrics]),
        invalid=sum(one.test is None or one.test["outcome"] != "scored" for one in bundle.results),
        code=tuple(sorted({one.code for one in episodes if one.code})),
    )


@dataclass(frozen=True, slots=True)
class _Episode:
    """What a board takes from the record of an episode; one without a record has only its competition.

    Attributes:
        competition: Id of the competition.
        label: The same with version and tier, since what differs in either cannot be compared.
        isolation: Kind of isolation.
        metrics: How the agent worked.
        code: Digest of what was changed in the starter; empty if nothing was.
    """

    competition: str
    label: str = ""
    isolation: str = ""
    metrics: ProcessMetrics | None = None
    code: str = ""


def _read_episode(result: Result) -> _Episode:
    competition = result.assignment.competition
    if result.record is None:
        return _Episode(competition)
    try:
        record = read_record(result.folder / result.record)
    except RecordError:
        return _Episode(competition)
    header, diff = record.header, changes(record)
    same = header.competition == competition
    is_diff = diff.startswith("---")  # not what hinders a comparison, in words
    return _Episode(
        competition,
        label=f"{competition} v{header.competition_version} {header.tier[:20]}" if same else "",
        isolation=header.isolation.tier[:40],
        metrics=process_metrics(record),
        code=hashlib.sha256(diff.encode("utf-8", "replace")).hexdigest()[:ID_CHARS] if is_diff else "",
    )


def _costs(results: list[Result]) -> dict[str, float]:
    """Means per episode; what is not known of every episode is left out."""
    costs = {"seconds": math.fsum(one.seconds for one in results) / len(results)}
    used = [[attempt.usage for attempt in (one, *one.attempts) if attempt.usage] for one in results]
    if all(used):
        flat = [usage for usages in used for usage in usages]
        costs["tokens"] = sum(usage["prompt"] + usage["completion"] for usage in flat) / len(results)
        if all(usage["money"] is not None for usage in flat):
            costs["money"] = math.fsum(usage["money"] for usage in flat) / len(results)
    return costs


def _sentences(checks: list[Check]) -> tuple[str, ...]:
    return tuple(
        f"{check.subject}: {check.name}: {check.sentence}" for check in checks if check.passed is False
    )


def _beside(bundle: Bundle, kind: str, key: str, cls: type[Row]) -> list[Row] | None:
    """The rows of a file that this board's own command wrote about the bundle; None if it did not.

    Raises:
        RecordError: The file cannot be read, or is about another bundle.
    """
    path = bundle.path.with_name(f"{bundle.path.name.partition('.mlrc')[0]}.{kind}.json")
    if not path.exists():
        return None
    try:
        with open_regular(path, _MAX_BYTES) as file:
            data = parse_object(file.read())
        if data.get("bundle") != bundle.digest:
            raise ValueError(f"it is not about this bundle; run mlrcbench {kind} again")
        return [read_dataclass(cls, row) for row in json_list(data[key])]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RecordError(f"{path} cannot be used: {cause(error)}") from None
