"""Card: everything that is known about a competition without running it.

A card is frozen data read from `card.toml`. It is read strictly: a missing, misspelt or
ill-typed entry is a `CardError` that names the file, the entry and what was expected.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from mlrcbench.artefacts import ArtefactSpec
from mlrcbench.artefacts.player import PlayLimits
from mlrcbench.artefacts.transcript import TRANSCRIPT
from mlrcbench.catalog.gymnasium_ids import gymnasium_id
from mlrcbench.catalog.limits import Budget, TierLimits
from mlrcbench.errors import CardError, RegistryError, nearest
from mlrcbench.score import SPLITS, Split
from mlrcbench.sources.spec import Source, read_sources
from mlrcbench.storage.carried import Carried
from mlrcbench.storage.strict import Table

Direction = Literal["maximize", "minimize"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Anchor:
    """A score that fixes the scale.

    Attributes:
        value: The score, in the metric's unit.
        spread: Standard deviation over instances (mini) or repeats (full); 0 if unknown.
        source: Where the figure comes from.
        between: The part of the spread that the draw of an instance's items does not explain: standard
            deviation between instances and seeds, in the metric's unit; 0 if unknown.
    """

    value: float
    spread: float
    source: str
    between: float = 0.0


@dataclass(frozen=True, slots=True)
class Anchors:
    """The two ends of the scale on one split: improvement 0 and improvement 1.

    Attributes:
        baseline: The starter's method.
        target: The top human entry, or the reference solution if no human entry exists.
        target_kind: "human" or "reference".
    """

    baseline: Anchor
    target: Anchor
    target_kind: Literal["human", "reference"]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a score's value measures.

    Attributes:
        name: Name of the metric.
        direction: Whether larger or smaller values are better.
        unit: Unit of the values, for example "points" or "1".
        lower: Smallest possible value.
        upper: Largest possible value.
    """

    name: str
    direction: Direction
    unit: str
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier of a competition: its data and its limits.

    Attributes:
        name: "mini" or "full".
        data: One sentence on where the data comes from.
        limits: See `TierLimits`.
        budget: Default budget of an episode.
        anchors: The anchors of each split.
        extras: Optional dependencies that it needs, as names of mlrcbench's extras.
        gpu_mb: GPU memory that a method can rely on, in MiB; 0 if commands see no GPU.
        artefacts: Files that an evaluation may leave, if they differ from the card's.
        carried: The agent's files that enter an evaluation; None if all do.
        play: The limits of a game, if evaluations are played.
        sources: Sources of data that is not generated, by name.
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
    carried: Carried | None
    play: PlayLimits | None
    sources: Mapping[str, Source]
    paper_detail: str


@dataclass(frozen=True, slots=True)
class Card:
    """The facts about a competition.

    Attributes:
        id: Lower-case words joined by hyphens; the folder has the same name with underscores.
        version: A number that is raised with every change of data or scoring.
        title: Title of the competition.
        venue: Where the competition was held.
        summary: One sentence on the task.
        licence: Licence of the data.
        citation: What to cite when using the competition.
        entry_point: Shell command that an evaluation runs in the workspace.
        editable: Globs over starter files that an agent may change.
        method_file: The one file that the paper's code size counts.
        metric: See `Metric`.
        artefacts: Files that an evaluation may leave.
        tiers: The tiers, by name.
        hidden: Whether listings leave it out.
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
        """The id for `gymnasium.make`, for example "mlrcbench/BackdoorTrigger-v0"."""
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
        """The files that an evaluation may leave in a tier; a game leaves its transcript only."""
        play = self.tier(tier).play
        if play is not None:
            return (ArtefactSpec(TRANSCRIPT, play.transcript_bytes),)
        return self.tier(tier).artefacts or self.artefacts


def read_card(path: Path) -> Card:
    """Read and check a `card.toml`.

    Raises:
        CardError: The file cannot be read, or an entry is missing, unknown or of the wrong type.
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
        artefacts=tuple(_artefact(entry) for entry in table.tables("artefacts", [])),
        tiers={name: _tier(name, tiers.table(name)) for name in tiers.left()},
        hidden=table.take("hidden", bool, False),
    )
    table.done(*Card.__dataclass_fields__)
    for tier in card.tiers.values():
        declared = tier.artefacts or card.artefacts
        if tier.play is None and not declared:
            raise CardError(f"the tier {tier.name} declares no [[artefacts]] and no [tiers.{tier.name}.play]")
        if tier.play is not None and declared:
            raise CardError(
                f"the tier {tier.name} is played, which leaves no [[artefacts]] but its transcript"
            )
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
        raise CardError("a metric's lower bound must be below its upper bound, and its best value is finite")
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
        carried=_carried(entry) if (entry := table.table("carried", {})).left() else None,
        play=_numbers(PlayLimits, play) if (play := table.table("play", {})).left() else None,
        sources=read_sources(table.table("sources", {})),
        paper_detail=table.take("paper_detail", str, ""),
    )
    anchors.done(*SPLITS)
    table.done(*Tier.__dataclass_fields__)
    return tier


def _carried(table: Table) -> Carried:
    carried = Carried(table.names("patterns"), table.take("max_bytes", int))
    table.done(*Carried.__dataclass_fields__)
    if not carried.patterns or carried.max_bytes <= 0:
        raise CardError("[carried] needs patterns, such as '*.py', and a size in bytes above 0")
    return carried


def _numbers(cls: type[T], table: Table) -> T:
    """A dataclass whose fields are all numbers."""
    fields: dict[str, Any] = getattr(cls, "__dataclass_fields__")  # noqa: B009 (typed as Any)
    kinds = {"int": int, "float": float}
    values: dict[str, Any] = {}
    for key, field in fields.items():
        default = None if field.default is dataclasses.MISSING else field.default
        values[key] = table.take(key, kinds[field.type], default)
    table.done(*fields)
    return cls(**values)


def _anchors(table: Table) -> Anchors:
    baseline = _anchor(table.table("baseline"))
    kinds: list[Literal["human", "reference"]] = ["human", "reference"]
    targets = [kind for kind in kinds if kind in table.left()]
    if len(targets) != 1:
        raise CardError("a split's anchors must be the baseline and one of 'human' or 'reference'")
    anchors = Anchors(baseline, _anchor(table.table(targets[0])), targets[0])
    table.done("baseline", *kinds)
    if anchors.baseline.value == anchors.target.value:
        raise CardError(f"the values of baseline and {targets[0]} must differ, to fix a scale")
    return anchors


def _anchor(table: Table) -> Anchor:
    anchor = Anchor(
        value=table.take("value", float),
        spread=table.take("spread", float),
        source=table.take("source", str),
        between=table.take("between", float, 0.0),
    )
    table.done(*Anchor.__dataclass_fields__)
    return anchor
