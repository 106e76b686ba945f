"""Preparing instances ahead, several at once.

Each instance is built by a process of its own, under a lock and a temporary name (see
`competition.py`), so builders may run side by side, be ended at any moment, and be started
again: what is in the cache already costs nothing. One that fails does not stop the others.

A tier of real data has one instance. Its sources are brought here first, or taken from a folder.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from mlrcbench.competition import Competition, Instance, home
from mlrcbench.errors import DataError, RegistryError
from mlrcbench.registry import get_competition
from mlrcbench.sources.archives import check_space
from mlrcbench.sources.fetch import fetch, take_folder
from mlrcbench.sources.raw import MADE


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


def prepare_real(
    competition: str | Competition,
    tier: str = "full",
    *,
    data: Path | None = None,
    cache: Path | None = None,
    quiet: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> Instance:
    """Bring a tier's real data here and convert it, as far as the cache does not have it.

    Args:
        competition: Its id, or the object; with sources in this tier.
        tier: See `Competition.instance`.
        data: A folder that holds the raw data already; nothing is downloaded then.
        cache: Where raw data, and what a conversion has finished of a long work, is kept, by competition;
            default: `sources` in mlrcbench's home. It is not needed any more once this has returned.
        quiet: Show no progress.
        on_progress: Called with a line of the conversion's output now and then.

    Raises:
        DataError: Something is missing, and what to do; or the conversion failed.
    """
    found = get_competition(competition) if isinstance(competition, str) else competition
    sources = found.card.tier(tier).sources
    if not sources:
        raise DataError(f"the {tier} tier of {found.id} is generated; it has no data to bring here")
    if found.is_prepared(tier):
        return found.instance(0, tier)
    needed = sum(source.disk_bytes for source in sources.values())
    check_space(home(), needed, f"converting {found.id}")
    with _raw_data(found, tier, data, cache, quiet) as raw:
        return found.instance(0, tier, raw=raw, on_progress=on_progress)


@contextlib.contextmanager
def _raw_data(
    competition: Competition, tier: str, data: Path | None, cache: Path | None, quiet: bool
) -> Iterator[Path]:
    sources = competition.card.tier(tier).sources
    place = (cache or home() / "sources") / competition.id
    if data is None:
        yield fetch(competition.id, sources, place, quiet=quiet)
        return
    with tempfile.TemporaryDirectory(prefix="mlrcbench-raw-") as scratch:
        raw = take_folder(competition.id, sources, data, Path(scratch))
        made = place.absolute() / MADE
        made.mkdir(parents=True, exist_ok=True)
        made.chmod(0o700)
        (raw / MADE).symlink_to(made, target_is_directory=True)
        yield raw
        with contextlib.suppress(OSError):  # it is in use
            made.rmdir()


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
