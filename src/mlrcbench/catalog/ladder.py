"""The ladder: published methods in the order of their measured scores, and where a score stands among them.

A competition's folder may have a `rungs.toml`, which `python -m tools.rungs` writes from the calibration.
Only hosts read it: where a method stands would tell an agent which methods to try.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlrcbench.errors import CardError
from mlrcbench.score import Split
from mlrcbench.storage.strict import Table

FILE = "rungs.toml"


@dataclass(frozen=True, slots=True)
class Rung:
    """A published method, or an end of the scale.

    Attributes:
        label: Name of the method, with the year of its publication where it has one.
        dev: Mean improvement on dev over the calibrated instances of the mini tier.
        test: The same on test.
    """

    label: str
    dev: float
    test: float


def read_ladder(path: Path) -> tuple[Rung, ...]:
    """The rungs of a competition; none if the file does not exist.

    Raises:
        CardError: The file cannot be read, or an entry is missing, unknown or of the wrong type.
    """
    if not path.exists():
        return ()
    try:
        table = Table(tomllib.loads(path.read_text("utf-8")), str(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CardError(f"{path}: {error}") from error
    rungs = tuple(_rung(entry) for entry in table.tables("rungs"))
    table.done("rungs")
    return rungs


def _rung(table: Table) -> Rung:
    rung = Rung(table.take("label", str), table.take("dev", float), table.take("test", float))
    table.done(*Rung.__dataclass_fields__)
    return rung


def standing(improvement: float, split: Split, ladder: Sequence[Rung]) -> str:
    """Between which rungs a score stands: "above A, below B"; empty without a ladder.

    Args:
        improvement: The score's relative improvement.
        split: "dev" or "test".
        ladder: The rungs, in any order.
    """

    def height(rung: Rung) -> float:
        return rung.dev if split == "dev" else rung.test

    lower = max((rung for rung in ladder if height(rung) < improvement), key=height, default=None)
    upper = min((rung for rung in ladder if height(rung) >= improvement), key=height, default=None)
    parts = [f"above {lower.label}"] if lower else []
    parts += [f"{'below' if height(upper) > improvement else 'level with'} {upper.label}"] if upper else []
    return ", ".join(parts)
