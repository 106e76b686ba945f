"""Readiness: can a competition's tier be played on this machine, what is missing, what does it cost?

Figures are previews. Sizes come from the cards; minutes assume 10 MB/s from the network and 40 MB/s
through the conversion.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mlrcbench.card import Tier
from mlrcbench.competition import Competition, home
from mlrcbench.errors import MlrcbenchError
from mlrcbench.registry import competitions
from mlrcbench.sources.fetch import is_fetched
from mlrcbench.sources.spec import Source
from mlrcbench.table import table

_NETWORK, _CONVERSION = 10e6, 40e6  # bytes per second


@dataclass(frozen=True, slots=True)
class Readiness:
    """What stands between a user and an episode.

    Attributes:
        competition: Its id.
        tier: "mini" or "full".
        missing: What the machine or its user lacks, one phrase each; empty if nothing.
        advice: What would be slow or smaller than meant, one phrase each.
        prepared: Whether its data is here, or needs no preparation.
        download_bytes: Still to come over the network.
        disk_bytes: About how much the raw data and the converted data will take.
        minutes: About how long preparing will take.
        steps: What a person has to do first, for each source that asks for it.
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


def everything_ready() -> list[Readiness]:
    """All tiers of all competitions that listings show."""
    return [
        readiness(competition, tier)
        for competition in competitions().values()
        for tier in competition.card.tiers
        if not competition.card.hidden or tier != "mini"
    ]


def readiness(competition: Competition, tier: str, *, cache: Path | None = None) -> Readiness:
    """One tier of one competition; looks at this machine only, not at the network.

    Args:
        competition: It.
        tier: A tier of its card.
        cache: See `prepare_real`.
    """
    card = competition.card.tier(tier)
    prepared = competition.is_prepared(tier)
    folder = (cache or home() / "sources") / competition.id
    waiting = [] if prepared else [one for one in card.sources.values() if not is_fetched(one, folder)]
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
        steps=tuple(f"{competition.id} ({one.name}): {one.steps}" for one in waiting if one.steps),
    )


def readiness_table(found: list[Readiness]) -> str:
    """For a terminal: one row per tier, then the steps that only a person can take."""
    rows = []
    for one in found:
        state = (
            "missing: " + "; ".join(one.missing)
            if one.missing
            else "ready"
            if one.prepared
            else "can be prepared"
        )
        rows.append(
            [
                one.competition,
                one.tier,
                "; ".join([state, *one.advice]),
                _size(one.download_bytes),
                _size(one.disk_bytes),
                f"{one.minutes:.0f} min" if one.minutes else "-",
            ]
        )
    steps = "".join("\n  " + line.replace("\n", "\n    ") for one in found for line in one.steps)
    head = ["competition", "tier", "here", "download", "disk", "about"]
    return table(head, rows) + (f"\n\nby hand, first:{steps}" if steps else "")


def _lacking_disk(disk: int) -> list[str]:
    free = shutil.disk_usage(next(path for path in [home(), *home().parents] if path.exists())).free
    return [f"disk: {_size(disk)} are needed, {_size(free)} are free"] if free < disk else []


def _lacking_packages(tier: Tier) -> list[str]:
    lacks = []
    for extra in tier.extras:
        absent = [name for name in _packages(extra) if not _installed(name)]
        if absent:
            lacks.append(f"packages {', '.join(absent)}: pip install 'mlrcbench[{extra}]'")
    return lacks


def _packages(extra: str) -> list[str]:
    """Names of what an extra of this library asks for."""
    found = []
    for line in metadata.requires("mlrcbench") or []:
        requirement, _, marker = line.partition(";")
        if re.search(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]", marker):
            found.append(re.split(r"[^A-Za-z0-9._-]", requirement.strip())[0])
    return found


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _gated(waiting: list[Source]) -> list[Source]:
    """Sources that need a person, as far as one can see from here."""
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
    """What works, and is less than the paper had."""
    found, wanted = [], tier.limits.memory_mb << 20
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if tier.sources and memory < wanted:
        found.append(f"memory {_size(memory)}, the paper had {_size(wanted)}")
    if tier.gpu_mb and (there := gpu_memory_mb()) < tier.gpu_mb:
        found.append(
            f"GPU {_size(there << 20) if there else 'none'}, the paper had {_size(tier.gpu_mb << 20)}"
        )
    return tuple(found)


def choose_device(device: str) -> None:
    """Say on which GPU conversions, commands and scorers of tiers that use one run, from now on.

    It is `CUDA_VISIBLE_DEVICES` of this process, which is passed on to them.

    Args:
        device: "auto" for what there is, "cpu" for none, "cuda" for any, "cuda:1" for one of them.

    Raises:
        MlrcbenchError: It is none of these, or there is no GPU.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", device):
        raise MlrcbenchError(
            f"--device {device[:40]!r} is unknown; take auto, cpu, cuda, or cuda:0, cuda:1, ..."
        )
    if device.startswith("cuda") and not gpu_memory_mb():
        raise MlrcbenchError(
            "no GPU was found: nvidia-smi is not there or lists none. Without --device, the CPU is used"
        )
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif ":" in device:
        os.environ["CUDA_VISIBLE_DEVICES"] = device.removeprefix("cuda:")


def gpu_memory_mb() -> int:
    """Memory of the largest GPU, MiB; 0 if none is seen."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return max((int(line) for line in done.stdout.split()), default=0)
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


def _size(count: int) -> str:
    """A number of bytes in words."""
    if count == 0:
        return "-"
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
