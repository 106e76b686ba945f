"""Entries of a board: what it shows of one bundle, and of the checks that this board made of it."""

from __future__ import annotations

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
from mlrcbench.runs.process_metrics import mean_metrics, process_metrics
from mlrcbench.runs.results import Result
from mlrcbench.storage.record import Header, read_record
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
    headers = {one.assignment.name: _header(one) for one in bundle.results}
    labels = _labels(bundle, headers)
    public: dict[str, list[float]] = {}
    for one in bundle.results:
        public.setdefault(labels[one.assignment.competition], []).append(one.improvement)
    retests, checks = (
        _beside(bundle, "retest", "episodes", Retest),
        _beside(bundle, "verify", "checks", Check),
    )
    retested: dict[str, list[float]] = {}
    for test in retests or ():
        if test.competition in labels:
            # An episode without a valid final score is the baseline on every instance.
            retested.setdefault(labels[test.competition], []).extend(test.again or (0.0,))
    records = [one.folder / str(one.record) for one in bundle.results if headers[one.assignment.name]]
    return BoardEntry(
        id=bundle.digest[:ID_CHARS],
        file=bundle.path.name,
        agent=bundle.manifest.agent,
        card=bundle.manifest.card,
        public=public,
        retested=retested or None,
        verdicts=dict(Counter(test.verdict for test in retests or ())),
        failed=None if checks is None else _sentences(checks),
        isolation=tuple(sorted({header.isolation.tier[:40] for header in headers.values() if header})),
        costs=_costs(bundle.results),
        process=mean_metrics([process_metrics(read_record(path)) for path in records]),
        invalid=sum(one.test is None or one.test["outcome"] != "scored" for one in bundle.results),
    )


def _header(result: Result) -> Header | None:
    """The header of an episode's record; None without a record that can be read."""
    if result.record is None:
        return None
    try:
        return read_record(result.folder / result.record).header
    except RecordError:
        return None


def _labels(bundle: Bundle, headers: Mapping[str, Header | None]) -> dict[str, str]:
    """Competition -> its label, with version and tier: what differs in either cannot be compared."""
    labels: dict[str, str] = {}
    for one in bundle.results:
        name, header = one.assignment.competition, headers[one.assignment.name]
        if header is not None and header.competition == name:
            labels[name] = f"{name} v{header.competition_version} {header.tier[:20]}"
        else:
            labels.setdefault(name, name)
    return labels


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
