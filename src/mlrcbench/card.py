"""Card: everything that can be said about a competition without running it.

A card is frozen data read from `card.toml`. It is read strictly: a missing, misspelt or
ill-typed entry is a `CardError` that names the file, the entry and what was expected.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from mlrcbench.artefacts import ArtefactSpec
from mlrcbench.budget import Budget
from mlrcbench.card_table import Table
from mlrcbench.errors import CardError, RegistryError, nearest
from mlrcbench.registration import gymnasium_id
from mlrcbench.score import SPLITS, Split
from mlrcbench.sources.spec import Source, read_sources

Direction = Literal["maximize", "minimize"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Anchor:
    """A score that fixes the scale.

    Attributes:
        value: In the metric's unit.
        spread: Standard deviation over instances (mini) or repeats (full); 0 if unknown.
        source: Where the figure comes from.
    """

    value: float
    spread: float
    source: str


@dataclass(frozen=True, slots=True)
class Anchors:
    """The two ends of the scale on one split: improvement 0 and improvement 1.

    Attributes:
        baseline: The starter's method.
        target: The top human entry, or the reference solution where there is none.
        target_kind: "human" or "reference".
    """

    baseline: Anchor
    target: Anchor
    target_kind: Literal["human", "reference"]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a score's value is.

    Attributes:
        name: In words.
        direction: Which way is better.
        unit: In words; "points", "1" and so on.
        lower: Smallest possible value.
        upper: Largest possible value.
    """

    name: str
    direction: Direction
    unit: str
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class TierLimits:
    """Limits of a tier.

    Attributes:
        evaluation_seconds: Wall time of the entry point, per evaluation.
        command_seconds: Wall time of one Run, at most.
        scoring_seconds: Wall time of the scorer.
        memory_mb: Memory of a command or an evaluation, MiB.
        workspace_mb: Size of the workspace, MiB.
        processes: Processes and threads of a command.
        threads: Threads that numeric libraries are told to use.
    """

    evaluation_seconds: float
    command_seconds: float
    scoring_seconds: float
    memory_mb: int
    workspace_mb: int
    processes: int
    threads: int


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier of a competition: its data and its limits.

    Attributes:
        name: "mini" or "full".
        data: Where its data comes from, one sentence.
        limits: See `TierLimits`.
        budget: Default budget of an episode.
        anchors: For each split its anchors.
        extras: Optional dependencies it needs, as names of mlrcbench's extras.
        gpu_mb: GPU memory that a method may count on, MiB; 0: commands see no GPU.
        artefacts: What an evaluation's code may leave behind, where it differs from the card's.
        sources: Where data comes from that is not generated, by name.
        paper_detail: Name of the detail that is on the paper's scale, if the score itself is not.
    """

    name: str
    data: str
    limits: TierLimits
    budget: Budget
    anchors: Mapping[Split, Anchors]
    extras: tuple[str, ...]
    gpu_mb: int
    artefacts: tuple[ArtefactSpec, ...]
    sources: Mapping[str, Source]
    paper_detail: str


@dataclass(frozen=True, slots=True)
class Card:
    """A competition in words and numbers.

    Attributes:
        id: Lower-case words joined by hyphens; the folder is the same with underscores.
        version: Raised with any change of data or scoring.
        title: In words.
        venue: Where the competition was held.
        summary: One sentence.
        licence: Of the data.
        citation: To cite when using it.
        entry_point: Shell command that an evaluation runs in the workspace.
        editable: Globs over starter files that an agent may change.
        method_file: The one file that the paper's code size counts.
        metric: See `Metric`.
        artefacts: What an evaluation's code may leave behind.
        tiers: By name.
        hidden: Left out of listings.
    """

    id: str
    version: int
    title: str
    venue: str
    summary: str
    licence: str
    citation: str
    entry_point: str
    editable: tuple[str, ...]
    method_file: str
    metric: Metric
    artefacts: tuple[ArtefactSpec, ...]
    tiers: Mapping[str, Tier]
    hidden: bool

    @property
    def gymnasium_id(self) -> str:
        """For example "mlrcbench/BackdoorTrigger-v0"."""
        return gymnasium_id(self.id, self.version)

    def tier(self, name: str) -> Tier:
        """A tier by name.

        Raises:
            RegistryError: The competition has no such tier.
        """
        if name not in self.tiers:
            raise RegistryError(f"{self.id} has no tier {name!r}. {nearest(name, self.tiers)}")
        return self.tiers[name]

    def artefacts_of(self, tier: str) -> tuple[ArtefactSpec, ...]:
        """What an evaluation's code may leave behind in a tier."""
        return self.tier(tier).artefacts or self.artefacts


def read_card(path: Path) -> Card:
    """Read and check a `card.toml`.

    Raises:
        CardError: It cannot be read, or an entry is missing, unknown or of the wrong type.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CardError(f"{path}: {error}") from error
    return _card(Table(table, str(path)))


def _card(table: Table) -> Card:
    identifier = table.take("id", str)
    if not re.fullmatch(r"_?[a-z0-9]+(-[a-z0-9]+)*", identifier):
        raise CardError(f"the id {identifier!r} must be lower-case words joined by hyphens")
    tiers = table.table("tiers")
    card = Card(
        id=identifier,
        version=table.take("version", int),
        title=table.take("title", str),
        venue=table.take("venue", str),
        summary=table.take("summary", str),
        licence=table.take("licence", str),
        citation=table.take("citation", str),
        entry_point=table.take("entry_point", str),
        editable=table.names("editable"),
        method_file=table.take("method_file", str),
        metric=_metric(table.table("metric")),
        artefacts=tuple(_artefact(entry) for entry in table.tables("artefacts")),
        tiers={name: _tier(name, tiers.table(name)) for name in tiers.left()},
        hidden=table.take("hidden", bool, False),
    )
    table.done(*Card.__dataclass_fields__)
    return card


def _metric(table: Table) -> Metric:
    metric = Metric(
        name=table.take("name", str),
        direction=table.choice("direction", ("maximize", "minimize")),
        unit=table.take("unit", str),
        lower=table.take("lower", float),
        upper=table.take("upper", float),
    )
    table.done(*Metric.__dataclass_fields__)
    best = metric.upper if metric.direction == "maximize" else metric.lower
    if not metric.lower < metric.upper or not math.isfinite(best):
        raise CardError("a metric's lower bound is below its upper, and its best value is finite")
    return metric


def _artefact(table: Table) -> ArtefactSpec:
    spec = ArtefactSpec(
        pattern=table.take("pattern", str),
        max_bytes=table.take("max_bytes", int),
        max_files=table.take("max_files", int, 1),
    )
    table.done(*ArtefactSpec.__dataclass_fields__)
    return spec


def _tier(name: str, table: Table) -> Tier:
    limits, budget, anchors = table.table("limits"), table.table("budget"), table.table("anchors")
    tier = Tier(
        name=name,
        data=table.take("data", str),
        limits=_numbers(TierLimits, limits),
        budget=_numbers(Budget, budget),
        anchors={split: _anchors(anchors.table(split)) for split in SPLITS},
        extras=table.names("extras", []),
        gpu_mb=table.take("gpu_mb", int, 0),
        artefacts=tuple(_artefact(entry) for entry in table.tables("artefacts", [])),
        sources=read_sources(table.table("sources", {})),
        paper_detail=table.take("paper_detail", str, ""),
    )
    anchors.done(*SPLITS)
    table.done(*Tier.__dataclass_fields__)
    return tier


def _numbers(cls: type[T], table: Table) -> T:
    """A dataclass whose fields are all numbers."""
    fields: dict[str, Any] = getattr(cls, "__dataclass_fields__")  # noqa: B009 (typed as Any)
    kinds = {"int": int, "float": float}
    values: dict[str, Any] = {key: table.take(key, kinds[field.type]) for key, field in fields.items()}
    table.done(*fields)
    return cls(**values)


def _anchors(table: Table) -> Anchors:
    baseline = _anchor(table.table("baseline"))
    kinds: list[Literal["human", "reference"]] = ["human", "reference"]
    found = [kind for kind in kinds if kind in table.left()]
    if len(found) != 1:
        raise CardError("a split's anchors are the baseline and one of 'human' or 'reference'")
    anchors = Anchors(baseline, _anchor(table.table(found[0])), found[0])
    table.done("baseline", *kinds)
    if anchors.baseline.value == anchors.target.value:
        raise CardError(f"baseline and {found[0]} must differ, or no scale is fixed")
    return anchors


def _anchor(table: Table) -> Anchor:
    anchor = Anchor(
        value=table.take("value", float), spread=table.take("spread", float), source=table.take("source", str)
    )
    table.done(*Anchor.__dataclass_fields__)
    return anchor
