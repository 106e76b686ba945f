"""Registration with Gymnasium, when mlrcbench is imported.

Registration takes milliseconds and reads only the id and the version of a card. The entry point is a
string, so that specs can be serialised and workers can rebuild them. (Gymnasium no longer reads its
entry-point group, so the import has to register.)
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import gymnasium

SHIPPED = Path(__file__).parents[1] / "competitions"


def gymnasium_id(competition: str, version: int) -> str:
    """The Gymnasium id, for example "mlrcbench/BackdoorTrigger-v0" for backdoor-trigger."""
    words = "".join(word.capitalize() for word in competition.strip("_").split("-"))
    return f"mlrcbench/{words}-v{version}"


def register(competition: str, version: int) -> None:
    """Register one competition, unless it is registered already."""
    name = gymnasium_id(competition, version)
    if name not in gymnasium.registry:
        gymnasium.register(
            name,
            entry_point="mlrcbench.env:ResearchEnv",
            vector_entry_point="mlrcbench.env.vector:VectorEnv",
            kwargs={"competition": competition},
        )


def register_shipped() -> None:
    """Register every competition of this package."""
    for path in SHIPPED.glob("*/card.toml"):
        card = tomllib.loads(path.read_text("utf-8"))
        register(card["id"], card["version"])
