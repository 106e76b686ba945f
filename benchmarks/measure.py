"""Measurements that the benchmarks share: calls that are timed in turn, and rows of their tables.

What is compared is measured in turn, A B A B, so that a change of the machine's speed affects both alike.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def timed(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def in_turn(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """Medians of measurements taken in turn, after one round that is not counted."""
    samples = [[measure() for measure in measures] for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*samples, strict=True)]


def timed_in_turn(rounds: int, calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median wall seconds of each call, taken in turn, after one round that is not counted."""
    measures = [lambda call=call: timed(call) for call in calls.values()]
    return dict(zip(calls, in_turn(rounds, *measures), strict=True))


def row(name: str, ours: float, floor: float, aim: str) -> list[str]:
    """A row of a table: two times in milliseconds, their ratio, and the aim for it."""
    return [name, f"{1000 * ours:.2f}", f"{1000 * floor:.2f}", f"{ours / floor:.3f}", aim]


def resident(pid: int | str = "self") -> int:
    """Resident bytes of a process, by default of this one."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
