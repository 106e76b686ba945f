"""The plan of a run: which episodes it plays, and what they have in common."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlrcbench.__version__ import __version__
from mlrcbench.agents.named import LlmOptions, check_name, is_model
from mlrcbench.catalog.registry import get_competition
from mlrcbench.env.settings import Settings
from mlrcbench.errors import RegistryError, RunError
from mlrcbench.storage.durable import replace_text
from mlrcbench.storage.strict import json_integer, json_list, json_text, open_regular, parse_object

PLAN = "run.json"
EPISODES = "episodes"
_VERSION = 1
_MAX_BYTES = 64 << 20
_MAX_EPISODES = 1_000_000
_COMPETITION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Assignment:
    """One episode to play.

    Attributes:
        agent: The agent's name; see `mlrcbench.agents.named`.
        competition: The competition's id.
        instance: Seed of the instance.
        trial: Number of the repetition, from 0; also the seed of the reset.
    """

    agent: str
    competition: str
    instance: int
    trial: int

    @property
    def name(self) -> str:
        """The folder's name: readable, unique, and safe as a path."""
        agent = re.sub(r"[^A-Za-z0-9_.-]+", "-", self.agent)[:40].strip("-.")
        digest = hashlib.sha256(self.agent.encode()).hexdigest()[:6]
        suffix = "" if agent == self.agent else f"-{digest}"
        return f"{self.competition}-{agent}{suffix}-i{self.instance}-t{self.trial}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A grid of episodes and what they have in common.

    Attributes:
        agents: Names of agents; see `mlrcbench.agents.named`.
        competitions: Ids of competitions.
        instances: How many instances of each competition, from seed 0.
        trials: How many trials on each instance, from 0.
        settings: The options of every episode; a user's own secret is never written down.
        llm: Options of all language models; see `LlmOptions`. They never include a key.
    """

    agents: tuple[str, ...]
    competitions: tuple[str, ...]
    instances: int = 1
    trials: int = 1
    settings: Settings = dataclasses.field(default_factory=Settings)
    llm: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.competitions:
            self.settings.budget_of(get_competition(name).card.tier(self.settings.tier))
        options = LlmOptions.read(self.llm)
        try:
            for agent in self.agents:
                check_name(agent, options)
        except RegistryError as error:
            raise RunError(str(error)) from None
        for name, number in (("instances", self.instances), ("trials", self.trials)):
            if isinstance(number, bool) or not isinstance(number, int):
                raise RunError(f"{name} must be a whole number, not {number!r}")
        if not (self.agents and self.competitions and self.instances >= 1 and self.trials >= 1):
            raise RunError("a run needs an agent, a competition, and at least one instance and one trial")
        size = len(self.agents) * len(self.competitions) * self.instances * self.trials
        if size > _MAX_EPISODES:
            raise RunError(
                f"a run has at most {_MAX_EPISODES:,} episodes, not {size:,}; ask for fewer of them"
            )

    def __iter__(self) -> Iterator[Assignment]:
        """Trials last, so that a run that is stopped early has seen every agent."""
        for trial in range(self.trials):
            for instance in range(self.instances):
                for competition in self.competitions:
                    for agent in self.agents:
                        yield Assignment(agent, competition, instance, trial)

    def write(self, directory: Path) -> None:
        """Write the plan into a directory; one that has a plan may only get more episodes of the same kind.

        Raises:
            RunError: The directory holds a run of another kind, or cannot be written.
        """
        path, llm = directory / PLAN, dict(self.llm)
        if path.exists():
            before = read_plan(directory)
            self._compare(before, path)
            llm = {**before.llm, **self.llm}
            if "ideas" in llm:
                llm["ideas"] = {**before.llm.get("ideas", {}), **self.llm.get("ideas", {})}
        data = {
            "version": _VERSION,
            "mlrcbench": __version__,
            "agents": self.agents,
            "competitions": self.competitions,
            "instances": self.instances,
            "trials": self.trials,
            **self.settings.to_json(),
            "llm": llm,
        }
        try:
            (directory / EPISODES).mkdir(parents=True, exist_ok=True)
            replace_text(path, json.dumps(data, indent=1) + "\n")
        except OSError as error:
            raise RunError(f"the run in {directory} cannot be written: {error.strerror}") from None

    @property
    def _has_models(self) -> bool:
        return any(map(is_model, self.agents))

    def _compare(self, other: Plan, path: Path) -> None:
        pairs: dict[str, tuple[Any, Any]]
        mine, theirs = self.settings.to_json(), other.settings.to_json()
        pairs = {name: (mine[name], theirs[name]) for name in mine}
        if self._has_models and other.llm:
            # Further ideas may come with further agents; an idea that is there already must stay as it was.
            llm, other_llm = dict(self.llm), dict(other.llm)
            ideas = llm.pop("ideas", {}), other_llm.pop("ideas", {})
            pairs["llm"] = (llm, other_llm)
            both = ideas[0].keys() & ideas[1].keys()
            pairs["ideas"] = (
                {name: ideas[0][name] for name in both},
                {name: ideas[1][name] for name in both},
            )
        for name, (value, written) in pairs.items():
            if value != written:
                raise RunError(
                    f"{path} has {name} {written!r}, not {value!r}; episodes of one run must be alike: "
                    "choose another directory"
                )


def read_plan(directory: Path) -> Plan:
    """The plan of a run.

    Raises:
        RunError: The directory holds no run.
    """
    data = _read(directory)
    try:
        return Plan(
            agents=tuple(data["agents"]),
            competitions=tuple(data["competitions"]),
            instances=data["instances"],
            trials=data["trials"],
            settings=Settings.from_json(data),
            llm=data["llm"],
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _no_run(directory, error) from None


def read_plan_entries(directory: Path) -> dict[str, Any]:
    """The entries of a run's plan as JSON types, of which its agents are checked to be texts.

    Raises:
        RunError: The directory holds no run.
    """
    data = _read(directory)
    try:
        return {**data, "agents": [json_text(name) for name in json_list(data["agents"])]}
    except (ValueError, TypeError, KeyError) as error:
        raise _no_run(directory, error) from None


def read_assignments(directory: Path) -> list[Assignment]:
    """The episodes of a run's plan, whether or not its agents and competitions exist here.

    Raises:
        RunError: The directory holds no run.
    """
    data = _read(directory)
    try:
        agents = [json_text(name) for name in json_list(data["agents"])]
        competitions = [json_text(name, _COMPETITION) for name in json_list(data["competitions"])]
        instances, trials = json_integer(data["instances"]), json_integer(data["trials"])
        if len(agents) * len(competitions) * instances * trials > _MAX_EPISODES:
            raise ValueError(f"it has more than {_MAX_EPISODES:,} episodes")
    except (ValueError, TypeError, KeyError) as error:
        raise _no_run(directory, error) from None
    grid = itertools.product(agents, competitions, range(instances), range(trials))
    return [Assignment(*place) for place in grid]


def _read(directory: Path) -> dict[str, Any]:
    try:
        with open_regular(directory / PLAN, _MAX_BYTES) as file:
            return parse_object(file.read())
    except OSError as error:
        raise _no_run(directory, error.strerror) from None
    except ValueError as error:
        raise _no_run(directory, error) from None


def _no_run(directory: Path, reason: object) -> RunError:
    return RunError(
        f"{directory} holds no run ({PLAN}: {str(reason)[:200]}); name a directory that a run wrote"
    )
