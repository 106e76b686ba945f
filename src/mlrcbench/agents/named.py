"""Agents by their names, as commands and runs have them.

    baseline, reference, random     scripted
    external:COMMAND                a program
    react:MODEL                     a language model with native tool calls
    react-text:MODEL                ... that writes its actions
    react-mlab:MODEL                ... in the six fields of the paper's agent
    react-mlab+human:MODEL          ... with the idea that the options call "human"

A name holds what tells agents of one run apart, so that a leaderboard never mixes two; what all
language models of a run share, such as their server and their budgets, are its `LlmOptions`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from mlrcbench.agents.external import ExternalAgent
from mlrcbench.agents.react import ReactAgent
from mlrcbench.agents.scripted import RandomAgent, ScriptedAgent, overlay_agent
from mlrcbench.agents.styles import STYLES, Style
from mlrcbench.competition import Competition
from mlrcbench.errors import RegistryError, RunError, nearest
from mlrcbench.llm import Endpoint

SCRIPTED = ("baseline", "reference", "random")
EXTERNAL = "external:"
REACT = "react"
FORMS = (*SCRIPTED, f"{EXTERNAL}COMMAND", f"{REACT}:MODEL")
_MODEL = re.compile(
    rf"{REACT}(?:-(?P<style>[a-z]+))?(?:\+(?P<idea>[A-Za-z0-9_.-]+))?:(?P<model>\S.*)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class LlmOptions:
    """What all language models of a run share; values that JSON can hold, and no key.

    Attributes:
        base_url, key_variable, temperature, max_tokens, timeout, retries, stream: See `Endpoint`.
        token_budget: Tokens that one episode may use.
        money_budget: US dollars that one episode may cost.
        prices: A file of prices; see `read_prices`.
        context, patience: See `ReactAgent`.
        ideas: Research ideas by the names that agents refer to.
    """

    base_url: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    temperature: float | None = None
    max_tokens: int | None = None
    timeout: float = 120.0
    retries: int = 6
    stream: bool = False
    token_budget: int | None = None
    money_budget: float | None = None
    prices: str | None = None
    context: int = 60_000
    patience: int = 3
    ideas: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """The options from a mapping.

        Raises:
            RunError: It has a key that is no option.
        """
        known = {one.name for one in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise RunError(f"language models have no option {name!r}. {nearest(name, known)}")
        return cls(**values)

    def endpoint(self, model: str) -> Endpoint:
        """A client for a model, with budgets of its own."""
        own = ("context", "patience", "ideas")
        given = {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.name not in own}
        return Endpoint(model, **given)


def react_name(model: str, style: str = "tools", idea: Path | None = None) -> str:
    """The name of a language model's agent; an idea is called like its file."""
    called = f"+{idea_name(idea)}" if idea is not None else ""
    return f"{REACT}{'' if style == 'tools' else f'-{style}'}{called}:{model}"


def idea_name(path: Path) -> str:
    """What names of agents call the idea in a file."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem) or "idea"


def is_model(name: str) -> bool:
    """Whether a name is that of a language model's agent."""
    return _MODEL.fullmatch(name) is not None


def check_name(name: str, options: LlmOptions) -> None:
    """Whether a name is one.

    Raises:
        RegistryError: It is none.
    """
    if name in SCRIPTED or name.startswith(EXTERNAL):
        return
    if not is_model(name):
        if name.partition(":")[0] == REACT:
            raise RegistryError(f"the agent {name!r} names no model: write {REACT}:MODEL, or give --model")
        raise RegistryError(f"there is no agent {name!r}. {nearest(name, FORMS)}")
    _read_model(name, options)


def make_agent(
    name: str, competition: Competition, options: LlmOptions | None = None
) -> ScriptedAgent | RandomAgent | ExternalAgent | ReactAgent:
    """An agent by its name, for episodes of a competition.

    Raises:
        RegistryError: There is none of that name.
        EndpointError: Its budget cannot be kept, or its table of prices not be read.
    """
    options = options or LlmOptions()
    check_name(name, options)
    if name == "random":
        return RandomAgent()
    if name in SCRIPTED:
        return overlay_agent(competition, name)
    if name.startswith(EXTERNAL):
        return ExternalAgent(name.removeprefix(EXTERNAL))
    style, idea, model = _read_model(name, options)
    return ReactAgent(
        options.endpoint(model), style=style, idea=idea, context=options.context, patience=options.patience
    )


def check_ready(name: str, options: LlmOptions) -> None:
    """Whether an agent of a right name can play here, as far as can be said without a call.

    Raises:
        EndpointError: A language model's key, price or package is missing.
    """
    if is_model(name):
        options.endpoint(_read_model(name, options)[2]).connect()


def _read_model(name: str, options: LlmOptions) -> tuple[Style, str, str]:
    """Style, idea and model of a name."""
    found = _MODEL.fullmatch(name)
    assert found is not None
    style = next((one for one in STYLES if one == (found["style"] or "tools")), None)
    if style is None:
        raise RegistryError(f"there is no style {found['style']!r}. {nearest(found['style'], STYLES)}")
    called = found["idea"]
    if called and called not in options.ideas:
        raise RegistryError(f"there is no idea {called!r}. {nearest(called, options.ideas)}")
    return style, options.ideas[called] if called else "", found["model"]
