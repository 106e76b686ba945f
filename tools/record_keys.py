"""Write the tables of a record's keys into `docs/records.md`, from the classes that define the format.

python -m tools.record_keys
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

from mlrcbench.sandbox import Isolation
from mlrcbench.score import Score
from mlrcbench.storage.record import ROWS

PAGE = Path(__file__).parents[1] / "docs" / "records.md"
BEGIN, END = "<!-- keys: begin -->\n", "<!-- keys: end -->\n"
PARTS = {"isolation": Isolation, "score": Score}


def tables() -> str:
    """One Markdown table for each kind of line, and for each object within them."""
    sections = [(f'Lines of kind `"{kind}"`', cls) for kind, cls in ROWS.items()]
    sections += [(f'Objects under `"{name}"`', cls) for name, cls in PARTS.items()]
    return "\n".join(f"{title}:\n\n{_table(cls)}" for title, cls in sections)


def fresh(page: str) -> str:
    """The page with its tables as they should be."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{tables()}\n{END}{rest.split(END)[1]}"


def _table(cls: type) -> str:
    descriptions = _descriptions(cls)
    rows = [f"| `{field.name}` | {descriptions[field.name]} |" for field in dataclasses.fields(cls)]
    return "\n".join(["| key | meaning |", "|---|---|", *rows, ""])


def _descriptions(cls: type) -> dict[str, str]:
    """Attribute -> description, from the docstring."""
    section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in entries}


if __name__ == "__main__":
    PAGE.write_text(fresh(PAGE.read_text("utf-8")), "utf-8")
