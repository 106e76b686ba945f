"""The options of an episode, each declared once.

`make`, the command line, plans of runs, replays and adapters take their options from the fields of
`Settings`: the name, the default, the legal values and the help text are written here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeVar

from mlrcbench.catalog.card import Tier
from mlrcbench.catalog.installation import unfit_secret
from mlrcbench.catalog.limits import Budget
from mlrcbench.env.reward import SCHEMES, Reward, Scheme
from mlrcbench.errors import RegistryError, nearest, shown
from mlrcbench.sandbox import KINDS
from mlrcbench.storage.snapshots.state import Rules, SpendingLimits
from mlrcbench.storage.strict import to_json

F = TypeVar("F", bound=Callable[..., Any])
Final = Literal["best", "last"]
FINALS: tuple[Final, ...] = ("best", "last")


def _option(help: str, choices: tuple[str, ...] = (), **form: Any) -> Mapping[str, Any]:
    """The metadata of an option.

    Args:
        help: One phrase, for the command line.
        choices: The legal values; empty if there are too many to list.
        form: How the command line reads the option, unless it is one string; see `argparse`.
    """
    return {"help": help, "choices": choices, "form": form}


def budget(text: str) -> dict[str, float]:
    """Parts of a budget, from a text of the command line, for example "steps=10,seconds=600".

    Raises:
        ValueError: The text is not of that form.
    """
    parts = (part.partition("=") for part in text.split(","))
    return {name.strip(): float(number) for name, _, number in parts}


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of an episode.

    Attributes:
        tier: "mini" (generated, CPU) or "full" (the real data).
        sandbox: "auto", or one of `mlrcbench.sandbox.KINDS`; see `open_sandbox`.
        budget: Parts of the card's budget to replace, for example `{"steps": 10}`; or a whole budget.
        secret: Secret of the instances; see `Competition.instance`.
        reward: "sparse" or "shaped"; see `Reward`.
        clip: Lower and upper bound on improvements in the reward, or None.
        final: "best": the best snapshot on dev is scored on test; "last": the last state.

    Raises:
        RegistryError: A value is not one of the legal ones.
    """

    tier: str = field(default="mini", metadata=_option("mini (generated) or full (the real data)"))
    sandbox: str = field(
        default="auto", metadata=_option("kind of sandbox; mlrcbench doctor says which work here", KINDS)
    )
    budget: Budget | Mapping[str, float] | None = field(
        default=None,
        metadata=_option(
            "parts of the card's budget to replace, for example steps=10,seconds=600",
            type=budget,
            metavar="NAME=NUMBER,...",
        ),
    )
    secret: str | None = field(
        default=None, metadata=_option("secret of the instances (default: this installation's)")
    )
    reward: Scheme = field(default="sparse", metadata=_option("how improvements become rewards", SCHEMES))
    clip: tuple[float, float] | None = field(
        default=None,
        metadata=_option(
            "bounds on improvements in the reward", type=float, nargs=2, metavar=("LOW", "HIGH")
        ),
    )
    final: Final = field(
        default="best",
        metadata=_option("what is scored on test: the best snapshot on dev, or the last state", FINALS),
    )

    def __post_init__(self) -> None:
        if not isinstance(self.tier, str):
            raise RegistryError(f"tier must be the name of one, not {shown(self.tier)}")
        if self.secret is not None and (reason := unfit_secret(self.secret)):
            raise RegistryError(reason)
        Reward(str(self.reward), _bounds(self.clip))  # type: ignore[arg-type]
        for option in dataclasses.fields(self):
            value, choices = getattr(self, option.name), option.metadata["choices"]
            if choices and value not in choices:
                raise RegistryError(f"{option.name} cannot be {shown(value)}. {nearest(str(value), choices)}")

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Self:
        """Settings from options by name.

        Raises:
            RegistryError: An option does not exist, or a value is not legal.
        """
        names = [option.name for option in dataclasses.fields(cls)]
        for name in options:
            if name not in names:
                raise RegistryError(f"unknown option {name!r}. {nearest(name, names)}")
        return cls(**{**options, "clip": _bounds(options.get("clip"))})

    def to_json(self) -> dict[str, Any]:
        """The options as JSON types, which `from_json` reads; the secret only if it is "public"."""
        options = {name: to_json(value) for name, value in self.to_options().items()}
        options["budget"] = options["budget"] or {}
        return {**options, "secret": self.secret if self.secret == "public" else None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Settings from a JSON object; unknown keys are ignored, and missing options get their default."""
        names = {option.name for option in dataclasses.fields(cls)}
        return cls.read({name: value for name, value in data.items() if name in names})

    def to_options(self) -> dict[str, Any]:
        """The options by name, as `read` takes them."""
        return {option.name: getattr(self, option.name) for option in dataclasses.fields(self)}

    def budget_of(self, tier: Tier) -> Budget:
        """The budget of an episode: the card's, with some parts replaced.

        Raises:
            CardError: The replacement is not valid.
        """
        return tier.budget.override(self.budget)

    def rules(self, tier: Tier) -> Rules:
        """What must be the same for an episode to continue in another environment."""
        budget = self.budget_of(tier)
        limits = SpendingLimits(budget.steps, float(budget.seconds), budget.evaluations)
        clip = None if self.clip is None else (float(self.clip[0]), float(self.clip[1]))
        return Rules(limits, self.reward, clip, self.final)


def _bounds(clip: Any) -> tuple[float, float] | None:
    """The bounds of a clip.

    Raises:
        RegistryError: They are not two numbers.
    """
    if clip is None:
        return None
    pair = tuple(clip) if isinstance(clip, Iterable) and not isinstance(clip, str | bytes) else ()
    numeric = all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in pair)
    if len(pair) != 2 or not numeric:
        raise RegistryError(f"clip must be two numbers, for example (-1.0, 2.0), not {shown(clip)}")
    return pair


def names_settings(function: F) -> F:
    """Have `inspect.signature` and `help` name each of the settings that a function takes as `**options`."""
    signature = inspect.signature(function)
    parameters = [part for part in signature.parameters.values() if part.kind is not part.VAR_KEYWORD]
    options = [
        inspect.Parameter(
            option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=option.type
        )
        for option in dataclasses.fields(Settings)
    ]
    shown = signature.replace(parameters=[*parameters, *options])
    setattr(function, "__signature__", shown)  # noqa: B010 (a function's type does not name it)
    return function
