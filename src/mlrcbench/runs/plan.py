"""What a run consists of."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlrcbench import __version__
from mlrcbench.agents.named import LlmOptions, check_name, is_model
from mlrcbench.errors import RegistryError, RunError
from mlrcbench.files import replace_text
from mlrcbench.registry import get_competition

PLAN = "run.json"
EPISODES = "episodes"
_VERSION = 1
_ALIKE = ("tier", "sandbox", "secret", "budget")


@dataclass(frozen=True, slots=True)
class Assignment:
    """One episode to play.

    Attributes:
        agent: Its name; see `mlrcbench.agents.named`.
        competition: Its id.
        instance: Seed of the instance.
        trial: Which repetition, from 0; the seed of the reset.
    """

    agent: str
    competition: str
    instance: int
    trial: int

    @property
    def name(self) -> str:
        """Of its folder: readable, unique, and safe as a path."""
        agent = re.sub(r"[^A-Za-z0-9_.-]+", "-", self.agent)[:40].strip("-.")
        digest = hashlib.sha256(self.agent.encode()).hexdigest()[:6]
        suffix = "" if agent == self.agent else f"-{digest}"
        return f"{self.competition}-{agent}{suffix}-i{self.instance}-t{self.trial}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A grid of episodes and what they have in common.

    Attributes:
        agents: See `Assignment`.
        competitions: Their ids.
        instances: How many, from 0.
        trials: How many, from 0.
        tier: "mini" or "full".
        sandbox: See `open_sandbox`.
        secret: Of the instances, if it is "public"; texts of one's own are never written down.
        budget: Parts of the card's budget to replace.
        llm: What language models share; see `LlmOptions`. No key is among it.
    """

    agents: tuple[str, ...]
    competitions: tuple[str, ...]
    instances: int = 1
    trials: int = 1
    tier: str = "mini"
    sandbox: str = "auto"
    secret: str | None = None
    budget: Mapping[str, float] = dataclasses.field(default_factory=dict)
    llm: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.competitions:
            get_competition(name).card.tier(self.tier)
        options = LlmOptions.read(self.llm)
        try:
            for agent in self.agents:
                check_name(agent, options)
        except RegistryError as error:
            raise RunError(str(error)) from None
        if not (self.agents and self.competitions and self.instances >= 1 and self.trials >= 1):
            raise RunError("a run needs an agent, a competition, and at least one instance and one trial")

    def __iter__(self) -> Iterator[Assignment]:
        """Trials last, so that a run that is stopped early has seen every agent."""
        for trial in range(self.trials):
            for instance in range(self.instances):
                for competition in self.competitions:
                    for agent in self.agents:
                        yield Assignment(agent, competition, instance, trial)

    def write(self, directory: Path) -> None:
        """Write down the plan; a directory that has one may only be given more of the same.

        Raises:
            RunError: The directory holds a run of another kind.
        """
        path, llm = directory / PLAN, dict(self.llm)
        if path.exists():
            before = read_plan(directory)
            self._compare(before, path)
            llm = {**before.llm, **self.llm}
            if "ideas" in llm:
                llm["ideas"] = {**before.llm.get("ideas", {}), **self.llm.get("ideas", {})}
        (directory / EPISODES).mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {"version": _VERSION, "mlrcbench": __version__, **dataclasses.asdict(self), "llm": llm},
            indent=1,
        )
        replace_text(path, text + "\n")

    @property
    def _has_models(self) -> bool:
        return any(map(is_model, self.agents))

    def _compare(self, other: Plan, path: Path) -> None:
        pairs: dict[str, tuple[Any, Any]]
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in _ALIKE}
        if self._has_models and other.llm:
            # Further ideas may come with further agents; one of the same name stays as it was.
            mine, theirs = dict(self.llm), dict(other.llm)
            ideas = mine.pop("ideas", {}), theirs.pop("ideas", {})
            pairs["llm"] = (mine, theirs)
            both = ideas[0].keys() & ideas[1].keys()
            pairs["ideas"] = (
                {name: ideas[0][name] for name in both},
                {name: ideas[1][name] for name in both},
            )
        for name, (mine, theirs) in pairs.items():
            if mine != theirs:
                raise RunError(
                    f"{path} has {name} {theirs!r}, not {mine!r}; episodes of one run must be alike: "
                    "choose another directory"
                )


def read_plan(directory: Path) -> Plan:
    """The plan of a run.

    Raises:
        RunError: The directory holds none.
    """
    try:
        data: dict[str, Any] = json.loads((directory / PLAN).read_text("utf-8"))
        known = {field.name for field in dataclasses.fields(Plan)}
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return Plan(**{key: value for key, value in values.items() if key in known})
    except (OSError, ValueError, TypeError) as error:
        raise RunError(
            f"{directory} holds no run ({PLAN}: {error}); name a directory that one wrote"
        ) from None
