"""What tokens cost: a small dated table, and files of the same form for other models.

    [[price]]
    model = "my-model"
    prompt = 1.0        # US dollars per million tokens
    cached = 0.1        # for tokens of the prompt that the provider had cached; by default as `prompt`
    completion = 4.0
    date = 2026-01-31
    note = "Where the figures are from."

A model's name also stands for its dated versions: "gpt-4o" for "gpt-4o-2024-08-06".
"""

from __future__ import annotations

import datetime
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlrcbench.errors import EndpointError

SHIPPED = Path(__file__).with_name("prices.toml")
_MILLION = 1_000_000
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True, slots=True)
class Price:
    """What a model's tokens cost.

    Attributes:
        prompt: US dollars per million tokens sent.
        completion: US dollars per million tokens written.
        cached: US dollars per million tokens sent that the provider had cached.
        date: Day on which the price was read or announced.
        note: Where the price is from, and what it leaves out.
    """

    prompt: float
    completion: float
    cached: float
    date: datetime.date
    note: str

    def money(self, prompt: int, completion: int, cached: int = 0) -> float:
        """US dollars for a call; `cached` of its `prompt` tokens had been cached."""
        cached = min(cached, prompt)
        sent = (prompt - cached) * self.prompt + cached * self.cached
        return (sent + completion * self.completion) / _MILLION


def read_prices(path: str | Path | None = None) -> dict[str, Price]:
    """The prices of the shipped table, replaced and extended by those of a file.

    Args:
        path: The file; None for the shipped table alone.

    Raises:
        EndpointError: The file cannot be read, or a row is incomplete. Its kind is "setup".
    """
    prices = _read(SHIPPED)
    return prices | _read(Path(path)) if path is not None else prices


def price_of(model: str, prices: Mapping[str, Price]) -> Price | None:
    """The price of a model, or of the undated model that it is a version of; None if neither has one."""
    return prices.get(model) or prices.get(_DATED.sub("", model))


def _read(path: Path) -> dict[str, Price]:
    try:
        rows = tomllib.loads(path.read_text("utf-8"))["price"]
        return {str(row["model"]): _price(row) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        fault = f"has no {error}" if isinstance(error, KeyError) else f"cannot be read: {error}"
        raise EndpointError(
            f"the price table {path} {fault}; a row is [[price]] with model, prompt and completion "
            "(US dollars per million tokens), date and note",
            "setup",
        ) from None


def _price(row: Mapping[str, Any]) -> Price:
    prompt, completion = float(row["prompt"]), float(row["completion"])
    cached = float(row.get("cached", prompt))
    if not all(math.isfinite(figure) and figure >= 0 for figure in (prompt, completion, cached)):
        raise ValueError(f"{row['model']} has a price below 0")
    if not isinstance(row["date"], datetime.date):
        raise ValueError(f"the date of {row['model']} must be written as 2026-01-31")
    return Price(prompt, completion, cached, row["date"], str(row["note"]))
