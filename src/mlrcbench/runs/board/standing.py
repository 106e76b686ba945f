"""Standings: a rank for each entry, which counts only those that are better beyond chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlrcbench.aggregates import Interval, bootstrap, difference_of_means, mean_of_all
from mlrcbench.runs.board.entries import BoardEntry


@dataclass(frozen=True, slots=True)
class Standing:
    """How an entry stands among the others.

    Attributes:
        entry: The entry.
        public: Mean of its public improvements over competitions, with a 95 % interval.
        again: The same on fresh instances; None without a retest.
        rank: One more than the number of entries that are better beyond chance; None if it is not ranked.
        better: Ids of the entries that are better beyond chance.
        copies: Ids of the entries that have code of this entry.
    """

    entry: BoardEntry
    public: Interval
    again: Interval | None
    rank: int | None
    better: tuple[str, ...]
    copies: tuple[str, ...]


def standings(entries: Sequence[BoardEntry]) -> list[Standing]:
    """Entries by rank, then by mean.

    If any entry has a retest, retests are compared, and entries without one have no rank. Two entries are
    compared on the competitions that they share; one is better if the 95 % interval of the difference of
    the means does not hold 0. No correction is made for the number of comparisons.
    """
    retested = any(entry.retested for entry in entries)
    scores = {one.id: (one.retested or {}) if retested else one.public for one in entries}
    rows = []
    for entry in entries:
        others = [other for other in entries if other.id != entry.id]
        better = tuple(other.id for other in others if is_better(scores[other.id], scores[entry.id]))
        copies = tuple(other.id for other in others if set(other.code) & set(entry.code))
        rank = 1 + len(better) if scores[entry.id] else None
        again = bootstrap(entry.retested, mean_of_all) if entry.retested else None
        rows.append(Standing(entry, bootstrap(entry.public, mean_of_all), again, rank, better, copies))
    return sorted(rows, key=lambda row: (row.rank or len(rows) + 1, -(row.again or row.public).value))


def is_better(one: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]]) -> bool:
    """Whether the first is better than the second beyond chance.

    Competitions of which either has a single score are left out: it says nothing about chance.
    """
    shared = [name for name in one if name in other and min(len(one[name]), len(other[name])) > 1]
    if not shared:
        return False
    sides = ({name: side[name] for name in shared} for side in (one, other))
    return difference_of_means(*sides).lower > 0
