"""Readiness: whether a tier can be played on this machine, what is missing, and what preparing it costs.

The figures are estimates. Sizes come from the cards; minutes assume that the network delivers 10 MB/s
and that the conversion handles 40 MB/s.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mlrcbench.catalog.card import Tier
from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.registry import competitions
from mlrcbench.errors import DataError
from mlrcbench.sandbox.folders import (
    MOVE_HOME,
    MOVE_RECORDS,
    MOVE_TEMPORARY,
    home,
    nearest_existing,
    resolved,
    temporary,
    trial,
)
from mlrcbench.sandbox.readable import exposure
from mlrcbench.sources.fetch import is_fetched
from mlrcbench.sources.spec import Source

_NETWORK, _CONVERSION = 10e6, 40e6  # bytes per second


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a user still has to do before an episode can be played.

    Attributes:
        competition: Id of the competition.
        tier: "mini" or "full".
        missing: What the machine or its user lacks, one phrase each; empty if nothing.
        advice: What would be slower or smaller than in the paper, one phrase each.
        prepared: Whether the data is on this machine, or needs no preparation.
        download_bytes: Bytes that still have to be downloaded.
        disk_bytes: About how many bytes the raw data and the converted data will take.
        minutes: About how many minutes the preparation will take.
        steps: What the user has to do by hand first, for each source that needs it.
    """

    competition: str
    tier: str
    missing: tuple[str, ...]
    advice: tuple[str, ...]
    prepared: bool
    download_bytes: int
    disk_bytes: int
    minutes: float
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FolderState:
    """Whether a folder that the library writes to can be used.

    Attributes:
        name: What it is for.
        folder: Its path; None if it is not known.
        free: Free space on its file system, with a unit.
        problem: Why it cannot be used, and what to do; empty if it can.
    """

    name: str
    folder: Path | None
    free: str
    problem: str


def folder_states() -> list[FolderState]:
    """Try each folder that the library writes to, as it would be used now."""
    places: list[tuple[str, Callable[[], Path], str]] = [
        ("home", home, MOVE_HOME),
        ("instances", lambda: resolved(home() / "instances"), MOVE_HOME),
        ("records", lambda: resolved(home() / "records"), MOVE_RECORDS),
        ("temporary", _asked_temporary, MOVE_TEMPORARY),
    ]
    return [_folder_state(name, find, advice) for name, find, advice in places]


def _asked_temporary() -> Path:
    """The temporary folder that the user asked for; if it cannot be used, Python silently takes another."""
    asked = os.environ.get("TMPDIR")
    if asked and not os.path.isdir(asked):
        raise DataError(f"TMPDIR names {asked}, which is not a folder; set TMPDIR to another one")
    return resolved(asked) if asked else temporary()


def _folder_state(name: str, find: Callable[[], Path], advice: str) -> FolderState:
    try:
        folder = find()
        free = size_text(_free_bytes(folder))
    except (DataError, OSError) as error:
        return FolderState(name, None, "-", str(error))
    return FolderState(name, folder, free, trial(folder, advice) or exposure(folder, advice))


def _free_bytes(folder: Path) -> int:
    """Free bytes on the file system that a folder lies on, or will lie on."""
    return shutil.disk_usage(nearest_existing(folder)).free


def everything_ready() -> list[Readiness]:
    """The readiness of all tiers of all competitions that listings show."""
    return [
        readiness(competition, tier)
        for competition in competitions().values()
        for tier in competition.card.tiers
        if not competition.card.hidden or tier != "mini"
    ]


def readiness(competition: Competition, tier: str, *, cache: Path | None = None) -> Readiness:
    """The readiness of one tier; only this machine is looked at, not the network.

    Args:
        competition: The competition.
        tier: A tier of its card.
        cache: See `prepare_real`.
    """
    card = competition.card.tier(tier)
    prepared = competition.is_prepared(tier)
    folder = (cache or home() / "sources") / competition.id
    waiting = [] if prepared else [item for item in card.sources.values() if not is_fetched(item, folder)]
    download = sum(source.download_bytes for source in waiting)
    disk = 0 if prepared else 2 * sum(source.disk_bytes for source in card.sources.values())
    return Readiness(
        competition=competition.id,
        tier=tier,
        missing=(
            *_lacking_disk(disk),
            *_lacking_packages(card),
            *map(_lacking_access, _gated(waiting)),
        ),
        advice=_advice(card),
        prepared=prepared,
        download_bytes=download,
        disk_bytes=disk,
        minutes=(download / _NETWORK + disk / _CONVERSION) / 60,
        steps=tuple(
            f"{competition.id} ({source.name}): {source.steps}" for source in waiting if source.steps
        ),
    )


def _lacking_disk(disk: int) -> list[str]:
    free = _free_bytes(home())
    return [f"disk: {size_text(disk)} are needed, {size_text(free)} are free"] if free < disk else []


def _lacking_packages(tier: Tier) -> list[str]:
    lacks = []
    for extra in tier.extras:
        absent = [name for name in _packages(extra) if not _installed(name)]
        if absent:
            lacks.append(f"packages {', '.join(absent)}: pip install 'mlrcbench[{extra}]'")
    return lacks


def _packages(extra: str) -> list[str]:
    """Names of the packages that an extra of this library requires."""
    packages: list[str] = []
    try:
        requirements = metadata.requires("mlrcbench") or []
    except metadata.PackageNotFoundError:  # the library runs from a copy that was not installed
        return packages
    for line in requirements:
        requirement, _, marker = line.partition(";")
        if re.search(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]", marker):
            packages.append(re.split(r"[^A-Za-z0-9._-]", requirement.strip())[0])
    return packages


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _gated(waiting: list[Source]) -> list[Source]:
    """Sources that need the user: downloads by hand, and tokens that are not set."""
    return [
        source
        for source in waiting
        if source.by_hand or (source.variable and not os.environ.get(source.variable))
    ]


def _lacking_access(source: Source) -> str:
    if source.by_hand:
        return f"{source.name}, by hand ({source.gate}), then --data"
    return f"access to {source.repository or source.name} ({source.gate}): set {source.variable}"


def _advice(tier: Tier) -> tuple[str, ...]:
    """Where this machine has less than the paper's."""
    advice, paper_memory = [], tier.limits.memory_mb << 20
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if tier.sources and memory < paper_memory:
        advice.append(f"memory {size_text(memory)}, the paper had {size_text(paper_memory)}")
    if tier.gpu_mb and (gpu_mb := gpu_memory_mb()) < tier.gpu_mb:
        gpu = size_text(gpu_mb << 20) if gpu_mb else "none"
        advice.append(f"GPU {gpu}, the paper had {size_text(tier.gpu_mb << 20)}")
    return tuple(advice)


def gpu_memory_mb() -> int:
    """Memory of the largest GPU, in MiB; 0 if there is no GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return max((int(line) for line in done.stdout.split()), default=0)
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


def size_text(count: int) -> str:
    """A number of bytes with its unit, for example "1.5 GB"."""
    if count == 0:
        return "-"
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
