"""Preparing instances ahead, several at once.

Each instance is built by a process of its own, under a lock and a temporary name (see
`competition.py`), so builders may run side by side, be ended at any moment, and be started
again: what is in the cache already costs nothing. One that fails does not stop the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from mlrcbench.competition import Competition, Instance
from mlrcbench.errors import DataError, RegistryError
from mlrcbench.registry import get_competition


@dataclass(frozen=True, slots=True)
class Prepared:
    """What came of preparing one instance.

    Attributes:
        seed: Its seed.
        instance: None if it failed.
        error: Why; empty if it did not.
        seconds: How long it took, next to nothing if it was in the cache.
    """

    seed: int
    instance: Instance | None
    error: str
    seconds: float


class _StoppedError(Exception):
    """Somebody asked for an end."""


def prepare(
    competition: str | Competition,
    seeds: int | Iterable[int],
    *,
    tier: str = "mini",
    jobs: int = 1,
    secret: str | None = None,
    on_prepared: Callable[[Prepared], None] | None = None,
    stop: threading.Event | None = None,
) -> list[Prepared]:
    """Build the instances of some seeds, as far as the cache does not have them.

    Args:
        competition: Its id, or the object.
        seeds: How many, from 0, or which.
        tier: See `Competition.instance`.
        jobs: How many processes build at once.
        secret: See `Competition.instance`.
        on_prepared: Called with each as it is done, in any order, in this thread.
        stop: Set it, in another thread, to end what is being built and return early.

    Returns:
        One entry for each seed, in their order; without those that were not begun when `stop`
        was set.

    Raises:
        RegistryError: There is no such competition or tier, or `jobs` is below 1.
    """
    found = get_competition(competition) if isinstance(competition, str) else competition
    found.card.tier(tier)
    if jobs < 1:
        raise RegistryError(f"jobs must be at least 1, not {jobs}")
    wanted = list(dict.fromkeys(range(seeds) if isinstance(seeds, int) else seeds))
    ended = stop or threading.Event()

    def build(seed: int) -> Prepared:
        return _build(found, seed, tier, secret, ended)

    done: dict[int, Prepared] = {}
    with ThreadPoolExecutor(jobs, "mlrcbench-prepare") as pool:
        try:
            for future in as_completed([pool.submit(build, seed) for seed in wanted]):
                try:
                    one = future.result()
                except _StoppedError:
                    continue
                done[one.seed] = one
                if on_prepared is not None:
                    on_prepared(one)
        except BaseException:
            ended.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [done[seed] for seed in wanted if seed in done]


def _build(
    competition: Competition, seed: int, tier: str, secret: str | None, ended: threading.Event
) -> Prepared:
    def check(_: str = "") -> None:
        if ended.is_set():
            raise _StoppedError

    check()
    started = time.monotonic()
    try:
        instance = competition.instance(seed, tier, secret=secret, on_progress=check)
    except DataError as error:
        return Prepared(seed, None, str(error), time.monotonic() - started)
    return Prepared(seed, instance, "", time.monotonic() - started)
