"""Preparing instances ahead of time, several at once.

Each instance is built in a separate process, under a lock and a temporary name (see `instances.py`), so
builders can run at the same time, be ended at any moment, and be started again: an instance that is in
the cache costs nothing. One that fails does not stop the others.

A tier of real data has one instance. Its sources are downloaded first, or taken from a folder.
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

from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.installation import read_secret
from mlrcbench.catalog.instances import Instance
from mlrcbench.catalog.registry import get_competition
from mlrcbench.errors import DataError, RegistryError
from mlrcbench.sandbox.folders import home
from mlrcbench.sources.archives import check_space
from mlrcbench.sources.fetch import fetch, take_folder
from mlrcbench.sources.raw import MADE


@dataclass(frozen=True, slots=True)
class Prepared:
    """The result of preparing one instance.

    Attributes:
        seed: Seed of the instance.
        instance: The instance; None if it could not be built.
        error: Why it could not be built; empty if it was.
        seconds: How long it took; almost nothing if it was in the cache.
    """

    seed: int
    instance: Instance | None
    error: str
    seconds: float


class _StoppedError(Exception):
    """The caller asked to stop."""


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
    """Build the instances of some seeds that are not in the cache.

    Args:
        competition: The competition, or its id.
        seeds: The number of seeds, counted from 0, or the seeds themselves.
        tier: See `Competition.instance`.
        jobs: How many processes build at once.
        secret: See `Competition.instance`.
        on_prepared: Called with each result when it is ready, in any order, in this thread.
        stop: An event that another thread can set, to end the builds and return early.

    Returns:
        One entry for each seed, in their order; seeds that were not finished when `stop` was set are
        left out.

    Raises:
        RegistryError: The competition or the tier does not exist, `seeds` are not whole numbers from 0, or
            `jobs` is below 1.
        DataError: The secret is too short.
    """
    subject = get_competition(competition) if isinstance(competition, str) else competition
    subject.card.tier(tier)
    if jobs < 1:
        raise RegistryError(f"jobs must be at least 1, not {jobs}")
    numbers = _numbers(seeds)
    read_secret(secret)
    ended = stop or threading.Event()

    def build(seed: int) -> Prepared:
        return _build(subject, seed, tier, secret, ended)

    done: dict[int, Prepared] = {}
    with ThreadPoolExecutor(jobs, "mlrcbench-prepare") as pool:
        try:
            for future in as_completed([pool.submit(build, seed) for seed in numbers]):
                try:
                    prepared = future.result()
                except _StoppedError:
                    continue
                done[prepared.seed] = prepared
                if on_prepared is not None:
                    on_prepared(prepared)
        except BaseException:
            ended.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [done[seed] for seed in numbers if seed in done]


def _numbers(seeds: int | Iterable[int]) -> list[int]:
    """Seeds, each once.

    Raises:
        RegistryError: They are something else.
    """
    numbers = range(seeds) if isinstance(seeds, int) else seeds
    if isinstance(seeds, int) and seeds < 0:
        raise RegistryError(f"the number of seeds must be at least 0, not {seeds}")
    if not isinstance(numbers, Iterable) or isinstance(numbers, str | bytes):
        raise RegistryError(f"seeds must be a number or a list of numbers, not {seeds!r}")
    numbers = list(numbers)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int):
            raise RegistryError(f"a seed must be a whole number, not {number!r}")
    return list(dict.fromkeys(numbers))


def prepare_real(
    competition: str | Competition,
    tier: str = "full",
    *,
    data: Path | None = None,
    cache: Path | None = None,
    quiet: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> Instance:
    """Download a tier's real data and convert it, unless it is in the cache.

    Args:
        competition: The competition, or its id; this tier of it has sources.
        tier: See `Competition.instance`.
        data: A folder that holds the raw data already, so that nothing is downloaded.
        cache: Folder for raw data and for the finished parts of a long conversion, by competition; by
            default `sources` in mlrcbench's home. It is not needed any more after this call.
        quiet: Whether to show no progress.
        on_progress: Called now and then with what the download or the conversion does.

    Raises:
        DataError: Something is missing, and the message says what to do; or the conversion failed.
    """
    subject = get_competition(competition) if isinstance(competition, str) else competition
    sources = subject.card.tier(tier).sources
    if not sources:
        raise DataError(f"the {tier} tier of {subject.id} is generated; it has no data to download")
    if subject.is_prepared(tier):
        return subject.instance(0, tier)
    needed = sum(source.disk_bytes for source in sources.values())
    check_space(home(), needed, f"converting {subject.id}")
    with _raw_data(subject, tier, data, cache, quiet, on_progress=on_progress) as raw:
        return subject.instance(0, tier, raw=raw, on_progress=on_progress)


@contextlib.contextmanager
def _raw_data(
    competition: Competition,
    tier: str,
    data: Path | None,
    cache: Path | None,
    quiet: bool,
    *,
    on_progress: Callable[[str], None] | None = None,
) -> Iterator[Path]:
    """A folder with the raw data of each source, and a link to the finished parts of a conversion."""
    sources = competition.card.tier(tier).sources
    place = (cache or home() / "sources") / competition.id
    if data is None:
        yield fetch(competition.id, sources, place, quiet=quiet, on_progress=on_progress)
        return
    with tempfile.TemporaryDirectory(prefix="mlrcbench-raw-") as scratch:
        raw = take_folder(competition.id, sources, data, Path(scratch))
        finished = place.absolute() / MADE
        finished.mkdir(parents=True, exist_ok=True)
        finished.chmod(0o700)
        (raw / MADE).symlink_to(finished, target_is_directory=True)
        yield raw
        with contextlib.suppress(OSError):  # it holds finished parts
            finished.rmdir()


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
