"""What a board accepts: a policy, from a TOML file."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlrcbench.errors import CardError, cause
from mlrcbench.storage.strict import Table, open_regular

_MAX_BYTES = 100_000
Rule = Literal["required", "possible", "off"]
RULES: tuple[Rule, ...] = ("required", "possible", "off")


@dataclass(frozen=True, slots=True)
class AcceptancePolicy:
    """What a board accepts.

    Attributes:
        competitions: Ids of competitions; empty for all that are installed.
        tiers: Tiers of competitions.
        isolation: Names of the isolation's tiers, as records have them.
        secrets: Kinds of the instances' secret; "public" would let anyone compute the answers.
        final: What may be scored on test: "best", "last".
        instances: Smallest number of instances of each competition.
        trials: Smallest number of trials on each instance.
        card: Whether the agent needs a card.
        larger_budgets: Whether budgets may be larger than those of the competitions' cards.
        branches: Whether episodes may have begun from a snapshot.
        left_out: Whether files may have been left out of the bundle.
        failures: Largest share of episodes in which the infrastructure failed.
        rescore: Whether all artefacts are scored again: "required", "possible" (where the instance can be
            built here) or "off".
        replay: Whether all actions are played again: "required" (and must give the same), "possible" (where
            the instance can be built here; a difference is only reported, since output may depend on the
            clock) or "off".
    """

    competitions: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ("mini", "full")
    isolation: tuple[str, ...] = ("strong", "uid", "landlock", "bubblewrap", "container")
    secrets: tuple[str, ...] = ("installation", "own", "none")
    final: tuple[str, ...] = ("best", "last")
    instances: int = 1
    trials: int = 1
    card: bool = False
    larger_budgets: bool = False
    branches: bool = False
    left_out: bool = False
    failures: float = 0.0
    rescore: Rule = "possible"
    replay: Rule = "possible"


def read_policy(path: Path) -> AcceptancePolicy:
    """The policy in a TOML file, with entries of `AcceptancePolicy`; each of them may be missing.

    Raises:
        CardError: The file cannot be read, or an entry is unknown or not of its type.
    """
    try:
        with open_regular(path, _MAX_BYTES) as file:
            table = Table(tomllib.load(file), str(path))
    except (OSError, ValueError, RecursionError) as error:
        raise CardError(f"{path} cannot be read: {cause(error)}; write a TOML file") from None
    values: dict[str, Any] = {}
    for entry in dataclasses.fields(AcceptancePolicy):
        if entry.name not in table.left():
            continue
        if entry.name in ("rescore", "replay"):
            values[entry.name] = table.choice(entry.name, RULES)
        elif isinstance(entry.default, tuple):
            values[entry.name] = table.names(entry.name)
        else:
            values[entry.name] = table.take(entry.name, type(entry.default))
    table.done(*(entry.name for entry in dataclasses.fields(AcceptancePolicy)))
    return AcceptancePolicy(**values)
