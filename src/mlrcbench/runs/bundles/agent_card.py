"""The card of an agent: who made it, what it is, and under which licence its results may be used."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from mlrcbench.errors import CardError, cause
from mlrcbench.storage.strict import Table, open_regular

_MAX_BYTES = 100_000
_MAX_CHARS = 500
_MAX_AUTHORS = 200


@dataclass(frozen=True, slots=True)
class AgentCard:
    """What a board shows of an agent's makers.

    Attributes:
        name: The agent's name, as a board shows it.
        model: The language model in it, or "none".
        authors: Who made it.
        licence: The licence of the bundle's content.
        contact: Where to reach them; may be empty.

    Raises:
        ValueError: A text is empty, too long, or not printable.
    """

    name: str
    model: str
    authors: tuple[str, ...]
    licence: str
    contact: str = ""

    def __post_init__(self) -> None:
        if not 1 <= len(self.authors) <= _MAX_AUTHORS:
            raise ValueError(f"an agent's card names 1 to {_MAX_AUTHORS} authors")
        for text in (self.name, self.model, *self.authors, self.licence):
            if not text.strip():
                raise ValueError("a text of the agent's card is empty; only 'contact' may be")
        for text in (self.name, self.model, *self.authors, self.licence, self.contact):
            if len(text) > _MAX_CHARS or not text.isprintable():
                raise ValueError(
                    f"a text of the agent's card has more than {_MAX_CHARS} characters, or is not printable"
                )


def read_agent_card(path: Path) -> AgentCard:
    """The card in a TOML file with the entries of `AgentCard`.

    Raises:
        CardError: The file cannot be read, or is not a card.
    """
    try:
        with open_regular(path, _MAX_BYTES) as file:
            entries = Table(tomllib.load(file), str(path))
    except (OSError, ValueError, RecursionError) as error:
        raise CardError(f"{path} cannot be read: {cause(error)}; write a TOML file") from None
    values = [entries.take(name, str) for name in ("name", "model")]
    authors, licence = entries.names("authors"), entries.take("licence", str)
    contact = entries.take("contact", str, "")
    entries.done(*(entry.name for entry in fields(AgentCard)))
    try:
        return AgentCard(values[0], values[1], authors, licence, contact)
    except ValueError as error:
        raise CardError(f"{path}: {error}") from None
