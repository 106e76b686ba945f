"""What is calibrated: overlays over the starter, and writers of artefacts.

A folder of methods, which is never shown to agents, holds

    ladder.toml          one table per method: label, kind, and for a ladder's step its published rank
    <method>/            an overlay: files that are new, or replace editable ones of the starter; if the
                         method's table has a list `over`, they replace files of the methods named there;
                         `tries` names a claim that it tries to break, `beside` the method to compare with
    bounds.py            BOUNDS = {name: write}, where write(public, inputs, answers, artefacts)
                         makes artefacts from the answers (an oracle) or from nothing (a constant)
"""

from __future__ import annotations

import importlib.util
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from mlrcbench.catalog.competition import Competition, read_overlay
from mlrcbench.errors import CardError, cause, nearest

Kind = Literal["baseline", "reference", "ladder", "trivial", "cheat", "bound"]
Tries = Literal["", "compute", "generator", "metric", "reseeds"]
Writer = Callable[[Path, Path, Path, Path], None]

LADDER = "ladder.toml"
BOUNDS = "bounds.py"
_KEYS = ("label", "kind", "published", "source", "over", "tries", "beside")


@dataclass(frozen=True, slots=True)
class Method:
    """One thing to measure.

    Attributes:
        name: Name of the method's folder or writer.
        label: Name in tables and plots.
        kind: The method's purpose.
        published: The method's rank in the literature, 1 the weakest; None if it has none.
        source: The publication with this rank.
        files: The overlay, path -> text; empty for the unchanged starter.
        write: A function that writes artefacts instead of running code; None for an overlay.
        code: Text of the module that defines `write`.
        tries: The claim that the method tries to break, see `claims`: more compute, a copy of the generator,
            a quirk of the metric, or the best of several seeds; empty if none.
        beside: Name of the method that it is compared with in such a claim.
    """

    name: str
    label: str
    kind: Kind
    published: float | None = None
    source: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    write: Writer | None = None
    code: str = ""
    tries: Tries = ""
    beside: str = "reference"


def read_methods(competition: Competition, folder: Path | None = None) -> list[Method]:
    """The baseline, the reference, and the methods of a folder, in the order of its `ladder.toml`.

    Raises:
        CardError: `ladder.toml` is wrong, names a method that does not exist, or leaves one out.
    """
    entries = _read_ladder(folder / LADDER) if folder else {}
    writers = _read_bounds(folder / BOUNDS) if folder else {}
    code = (folder / BOUNDS).read_text("utf-8") if folder and writers else ""
    overlays = (
        {path.name for path in folder.iterdir() if path.is_dir()} - {"__pycache__"} if folder else set()
    )
    unnamed = sorted((overlays | set(writers)) - set(entries))
    if unnamed:
        raise CardError(f"{folder}/{LADDER} says nothing about {', '.join(unnamed)}; give each a table")
    methods, overlaid = [], {name: competition.overlay(name) for name in ("baseline", "reference")}
    for name, files in overlaid.items():
        entry = entries.pop(name, {"label": name})
        methods.append(_method(name, {**entry, "kind": name}, files=files))
    for name, entry in entries.items():
        if name not in writers and name not in overlays:
            raise CardError(f"{folder}/{LADDER} has [{name}], but no folder and no bound of that name")
        if name in writers:
            methods.append(_method(name, entry, write=writers[name], code=code))
        elif folder is not None:
            overlaid[name] = {**_below(name, entry, overlaid), **read_overlay(folder / name)}
            methods.append(_method(name, entry, files=overlaid[name]))
    return methods


def _below(name: str, entry: Mapping[str, Any], overlaid: Mapping[str, dict[str, str]]) -> dict[str, str]:
    """The files under a method's own files; where several methods have a file, the last one's counts."""
    files: dict[str, str] = {}
    for other in entry.get("over", []):
        if other not in overlaid:
            raise CardError(
                f"{LADDER} [{name}]: `over` lists {other!r}, which is not an overlay above it. "
                f"{nearest(str(other), overlaid)}"
            )
        files |= overlaid[other]
    return files


def _method(name: str, entry: Mapping[str, Any], **parts: Any) -> Method:
    unknown = sorted(set(entry) - set(_KEYS))
    if unknown:
        raise CardError(
            f"{LADDER} [{name}]: the entry {unknown[0]!r} is unknown. {nearest(unknown[0], _KEYS)}"
        )
    kind = entry.get("kind", "")
    if kind not in get_args(Kind):
        raise CardError(f"{LADDER} [{name}]: kind is {kind!r}. {nearest(kind, get_args(Kind))}")
    published = entry.get("published")
    if kind == "ladder" and published is None:
        raise CardError(f"{LADDER} [{name}]: a ladder's step needs `published`, its rank in the literature")
    tries = entry.get("tries", "")
    if tries not in get_args(Tries):
        raise CardError(f"{LADDER} [{name}]: tries is {tries!r}. {nearest(str(tries), get_args(Tries)[1:])}")
    facts = {"tries": tries, "beside": str(entry.get("beside", "reference")), **parts}
    return Method(name, str(entry.get("label", name)), kind, published, str(entry.get("source", "")), **facts)


def _read_ladder(path: Path) -> dict[str, dict[str, Any]]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CardError(f"{path}: {cause(error)}") from error


def _read_bounds(path: Path) -> dict[str, Writer]:
    if not path.exists():
        return {}
    spec = importlib.util.spec_from_file_location(f"mlrcbench_bounds_{path.parent.parent.name}", path)
    if spec is None or spec.loader is None:
        raise CardError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    bounds: dict[str, Writer] = module.BOUNDS
    return bounds
