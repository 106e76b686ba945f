"""The commands `list`, `show`, `prepare` and `doctor`: competitions, and what works on this machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import textwrap
from pathlib import Path

import mlrcbench
from mlrcbench.__version__ import __version__
from mlrcbench.catalog.card import Tier
from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.prepare import Prepared, prepare, prepare_real
from mlrcbench.catalog.readiness import (
    Readiness,
    everything_ready,
    folder_states,
    gpu_memory_mb,
    size_text,
)
from mlrcbench.cli.options import AddCommand, a_path, add_instance_options, count, natural
from mlrcbench.cli.progress import Progress, say
from mlrcbench.errors import DataError, MlrcbenchError
from mlrcbench.sandbox import isolation_report
from mlrcbench.text import cut, table

_COLUMNS = 100


def add_catalog_commands(add: AddCommand) -> None:
    """Add `list`, `show` and `prepare`."""
    listing = add("list", _list, "List the competitions.")
    listing.add_argument("--json", action="store_true", help="print JSON")
    show = add("show", _show, "Show a competition's card.")
    show.add_argument("id", help="a competition's id")
    show.add_argument(
        "--statement", action="store_true", help="also print the statement that the agent reads"
    )
    show.add_argument("--tier", help="show this tier only (default: all, and the statement of mini)")
    ahead = add("prepare", _prepare, "Build instances ahead of time.")
    add_instance_options(ahead)
    ahead.add_argument("--instances", type=count, default=1, help="number of instances (default 1)")
    ahead.add_argument("--first", type=natural, default=0, help="seed of the first instance (default 0)")
    ahead.add_argument("--jobs", type=count, default=1, help="how many are built at once (default 1)")
    ahead.add_argument("--data", type=a_path, help="full tier: a folder that holds the raw data already")
    ahead.add_argument(
        "--cache", type=a_path, help="full tier: where downloads go (default: mlrcbench's home)"
    )


def add_doctor_command(add: AddCommand) -> None:
    """Add `doctor`."""
    add("doctor", _doctor, "Say what works on this machine, and what is missing.")


def readiness_table(tiers: list[Readiness]) -> str:
    """A table for a terminal of 100 columns: one row per tier, then notes, then steps to take by hand."""
    rows = [
        [
            tier.competition,
            tier.tier,
            "lacks something" if tier.missing else "ready" if tier.prepared else "can be prepared",
            size_text(tier.download_bytes),
            size_text(tier.disk_bytes),
            f"{tier.minutes:.0f} min" if tier.minutes else "-",
        ]
        for tier in tiers
    ]
    parts = [table(["competition", "tier", "here", "download", "disk", "about"], rows)]
    notes = [
        f"{tier.competition} ({tier.tier}): {kind}: {phrase}"
        for tier in tiers
        for kind, phrases in (("missing", tier.missing), ("note", tier.advice))
        for phrase in phrases
    ]
    steps = [line for tier in tiers for line in tier.steps]
    parts += [_list_text("", notes)] if notes else []
    parts += [_list_text("by hand, first:", steps)] if steps else []
    return "\n\n".join(parts)


def _list_text(title: str, items: list[str]) -> str:
    """Items below a title, wrapped for a terminal."""
    lines = [title] if title else []
    for item in items:
        first, *others = item.splitlines()
        lines += _wrapped(first, "  ")
        lines += [line for other in others for line in _wrapped(other, "    ")]
    return "\n".join(lines)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        _COLUMNS,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def choose_device(device: str) -> None:
    """Choose the GPU for conversions, commands and scorers of tiers that use one.

    The choice is `CUDA_VISIBLE_DEVICES` of this process, which is passed on to them.

    Args:
        device: "auto" for a GPU if there is one, "cpu" for none, "cuda" for any GPU, "cuda:1" for one of
            several.

    Raises:
        MlrcbenchError: The name is unknown, or there is no GPU.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", device):
        raise MlrcbenchError(
            f"--device {device[:40]!r} is unknown; use auto, cpu, cuda, or cuda:0, cuda:1, ..."
        )
    if device.startswith("cuda") and not gpu_memory_mb():
        raise MlrcbenchError(
            "no GPU was found: nvidia-smi is missing or lists no GPU. Without --device, the CPU is used"
        )
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif ":" in device:
        os.environ["CUDA_VISIBLE_DEVICES"] = device.removeprefix("cuda:")


def _list(options: argparse.Namespace) -> int:
    cards = mlrcbench.list_competitions()
    if options.json:
        print(json.dumps([{"id": card.id, "version": card.version, "title": card.title} for card in cards]))
        return 0
    rows = [[card.id, ", ".join(card.tiers), card.venue, card.metric.name] for card in cards]
    print(table(["competition", "tiers", "venue", "metric"], rows))
    return 0


def _show(options: argparse.Namespace) -> int:
    competition = mlrcbench.get_competition(options.id)
    card = competition.card
    tiers = list(card.tiers.values()) if options.tier is None else [card.tier(options.tier)]
    say(f"{card.title} ({card.id}, version {card.version})\n{card.venue}\n\n{card.summary}\n")
    print(f"metric: {card.metric.name}, {card.metric.direction}, in {card.metric.unit}")
    print(f"Gymnasium id: {card.gymnasium_id}\nlicence: {card.licence}\ncitation: {card.citation}\n")
    print(table(["tier", "split", "baseline", "target", "kind", "budget"], _tier_rows(tiers)))
    if options.statement:
        say(f"\n{competition.statement_of(options.tier or 'mini')}")
    return 0


def _tier_rows(tiers: list[Tier]) -> list[list[str]]:
    rows = []
    for tier in tiers:
        budget = (
            f"{tier.budget.steps} steps, {tier.budget.seconds:g} s, {tier.budget.evaluations} evaluations"
        )
        for split, anchors in tier.anchors.items():
            ends = [f"{anchor.value:g} ± {anchor.spread:g}" for anchor in (anchors.baseline, anchors.target)]
            rows.append([tier.name, split, *ends, anchors.target_kind, budget])
    return rows


def _prepare(options: argparse.Namespace) -> int:
    """Build instances; status 1 if one could not be built."""
    competition = mlrcbench.get_competition(options.id)
    if competition.card.tier(options.tier).sources:
        return _prepare_real(competition, options)
    if options.data or options.cache:
        raise DataError(
            f"the {options.tier} tier of {options.id} is generated; --data and --cache are not used"
        )
    seeds = range(options.first, options.first + options.instances)
    with Progress(f"preparing {options.id}", quiet=options.quiet) as progress:

        def show(result: Prepared) -> None:
            if result.instance is None:
                progress.print(f"instance {result.seed}: FAILED: {result.error}", error=True)
            else:
                progress.print(f"instance {result.seed}: {result.instance.root} ({result.seconds:.1f} s)")

        results = prepare(
            options.id, seeds, tier=options.tier, jobs=options.jobs, secret=options.secret, on_prepared=show
        )
    return 1 if any(result.instance is None for result in results) else 0


def _prepare_real(competition: Competition, options: argparse.Namespace) -> int:
    with Progress(f"preparing {options.id}", quiet=options.quiet) as progress:
        instance = prepare_real(
            competition,
            options.tier,
            data=options.data,
            cache=options.cache,
            quiet=options.quiet,
            on_progress=progress.say,
        )
    print(f"{options.id} ({options.tier}): {instance.root}")
    return 0


def _doctor(_: argparse.Namespace) -> int:
    """Print what this machine offers; status 1 if a folder cannot be used or agent code not be confined."""
    print(f"mlrcbench {__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(f"{os.cpu_count()} cores")
    problems = [*_check_folders(), *_check_sandboxes()]
    try:
        print(f"\n{readiness_table(everything_ready())}")
    except DataError as error:
        problems.append(str(error))
    if problems:
        print("\n" + _list_text("PROBLEMS", list(dict.fromkeys(problems))))
    return 1 if problems else 0


def _check_folders() -> list[str]:
    """Try each folder that the library writes to, and print the result; returns the problems."""
    problems: dict[Path, str] = {}
    rows = []
    for place in folder_states():
        usable = "no, see below" if place.problem else "yes"
        rows.append([place.name, usable, place.free, cut(str(place.folder or "-"))])
        folder = place.folder or Path(place.name)
        if place.problem and not any(folder.is_relative_to(other) for other in problems):
            problems[folder] = place.problem
    print(f"\n{table(['folder', 'usable', 'free', 'path'], rows)}")
    return list(problems.values())


def _check_sandboxes() -> list[str]:
    """Print what each kind of sandbox enforces here; returns the problems."""
    safe = None
    for kind, report in isolation_report().items():
        state = "works" if report["works"] else f"does not work: {report['reason']}"
        print("\n" + "\n".join(_wrapped(f"sandbox {kind}: {state}", "")))
        if report["works"] and safe is None and kind != "process":
            safe = kind
        for mark, sentences in (("+", report["enforced"]), ("-", report["missing"])):
            for sentence in sentences if report["works"] else ():
                print("\n".join(_wrapped(f"{mark} {sentence}", "  ")))
    if safe is None:
        return ["no sandbox confines agent code here; the reasons are above"]
    print(f"\nsandbox='auto' is {safe!r}")
    return []
