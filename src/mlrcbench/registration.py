"""Registration with Gymnasium, when mlrcbench is imported.

It costs milliseconds and reads no more of a card than its id and version. The entry point is
a string, so that specs can be serialised and workers rebuild them. (Gymnasium's own
entry-point group is no longer read by it, so importing is what registers.)
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import gymnasium

SHIPPED = Path(__file__).parent / "competitions"


def gymnasium_id(competition: str, version: int) -> str:
    """For example "mlrcbench/BackdoorTrigger-v0" for backdoor-trigger."""
    words = "".join(word.capitalize() for word in competition.strip("_").split("-"))
    return f"mlrcbench/{words}-v{version}"


def register(competition: str, version: int) -> None:
    """Register one competition, unless it is registered already."""
    name = gymnasium_id(competition, version)
    if name not in gymnasium.registry:
        options = {"competition": competition}
        gymnasium.register(name, entry_point="mlrcbench.env:ResearchEnv", kwargs=options)


def register_shipped() -> None:
    """Register every competition of this package."""
    for path in SHIPPED.glob("*/card.toml"):
        card = tomllib.loads(path.read_text("utf-8"))
        register(card["id"], card["version"])
