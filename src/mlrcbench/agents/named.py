"""Agents by the names that commands and runs give them.

    baseline, reference, random     scripted
    external:COMMAND                a program
    react:MODEL                     a language model with native tool calls
    react-text:MODEL                the same, but it writes its actions as text
    react-mlab:MODEL                the same, in the six fields of the paper's agent
    react-mlab+human:MODEL          the same, with the idea that the options call "human"
    MODULE:CLASS                    a class of Python, or a function that returns an agent
    MODULE:CLASS+LABEL              an instance that a program has given to its run

A name holds everything in which agents of one run differ, so that a leaderboard never mixes two.
What all language models of a run share, such as their server and their budgets, is in `LlmOptions`.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from mlrcbench.agents.external import ExternalAgent
from mlrcbench.agents.python_object import FORM, Origin, PythonAgent, check_importable, is_place, python_agent
from mlrcbench.agents.react import ReactAgent
from mlrcbench.agents.scripted import RandomAgent, ScriptedAgent, overlay_agent
from mlrcbench.agents.styles import STYLES, Style
from mlrcbench.catalog.competition import Competition
from mlrcbench.errors import RegistryError, RunError, nearest
from mlrcbench.llm import Endpoint

SCRIPTED = ("baseline", "reference", "random")
EXTERNAL = "external:"
REACT = "react"
FORMS = (*SCRIPTED, f"{EXTERNAL}COMMAND", f"{REACT}:MODEL", FORM)
_MODEL = re.compile(
    rf"{REACT}(?:-(?P<style>[a-z]+))?(?:\+(?P<idea>[A-Za-z0-9_.-]+))?:(?P<model>\S.*)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class LlmOptions:
    """Settings that all language models of a run share; JSON can hold them, and no key is among them.

    Attributes:
        base_url, key_variable, temperature, max_tokens, timeout, retries, stream: See `Endpoint`.
        token_budget: Tokens that one episode may use.
        money_budget: US dollars that one episode may cost.
        prices: A file of prices; see `read_prices`.
        context, patience: See `ReactAgent`.
        ideas: Research ideas, by their names in the names of agents.
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
            RunError: A key is not an option.
        """
        known = {option.name for option in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise RunError(f"language models have no option {name!r}. {nearest(name, known)}")
        return cls(**values)

    def endpoint(self, model: str) -> Endpoint:
        """A client for a model, with its own budgets."""
        names = {option.name for option in dataclasses.fields(self)} - {"context", "patience", "ideas"}
        return Endpoint(model, **{name: getattr(self, name) for name in names})


def react_name(model: str, style: str = "tools", idea: Path | None = None) -> str:
    """The name of a language model's agent; an idea has the name of its file."""
    idea_part = f"+{idea_name(idea)}" if idea is not None else ""
    return f"{REACT}{'' if style == 'tools' else f'-{style}'}{idea_part}:{model}"


def idea_name(path: Path) -> str:
    """The name, within names of agents, of the idea in a file."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem) or "idea"


def is_model(name: str) -> bool:
    """Whether a name belongs to a language model's agent."""
    return _MODEL.fullmatch(name) is not None


def is_python(name: str) -> bool:
    """Whether a name belongs to an object of Python."""
    return not name.startswith((EXTERNAL, f"{REACT}:")) and is_place(name)


def check_name(name: str, options: LlmOptions) -> None:
    """Check that a name is the name of an agent.

    Raises:
        RegistryError: No agent has this name.
    """
    if name in SCRIPTED:
        return
    if name.startswith(EXTERNAL):
        try:
            command = shlex.split(name.removeprefix(EXTERNAL))
        except ValueError as error:
            raise RegistryError(
                f"the agent {name!r} cannot be split into a command and its arguments: {error}"
            ) from None
        if not (command and command[0]):
            raise RegistryError(f"the agent {name!r} has no command: write {EXTERNAL}COMMAND")
        return
    if is_python(name):
        return
    if not is_model(name):
        if name.partition(":")[0] == REACT:
            raise RegistryError(f"the agent {name!r} names no model: write {REACT}:MODEL, or give --model")
        raise RegistryError(f"unknown agent {name!r}. {nearest(name, FORMS)}")
    _read_model(name, options)


def make_agent(
    name: str,
    competition: Competition,
    options: LlmOptions | None = None,
    origin: Origin | None = None,
) -> ScriptedAgent | RandomAgent | ExternalAgent | ReactAgent | PythonAgent:
    """The agent of a name, for episodes of a competition.

    Args:
        name: The name.
        competition: The competition.
        options: What language models share.
        origin: Where an object of Python comes from.

    Raises:
        RegistryError: No agent has this name.
        AgentError: An object of Python cannot be made.
        EndpointError: The model's budget cannot be kept, or the table of prices cannot be read.
    """
    options = options or LlmOptions()
    check_name(name, options)
    if name == "random":
        return RandomAgent()
    if name in SCRIPTED:
        return overlay_agent(competition, name)
    if name.startswith(EXTERNAL):
        return ExternalAgent(name.removeprefix(EXTERNAL))
    if is_python(name):
        return python_agent(name, origin)
    style, idea, model = _read_model(name, options)
    return ReactAgent(
        options.endpoint(model), style=style, idea=idea, context=options.context, patience=options.patience
    )


def check_ready(name: str, options: LlmOptions) -> None:
    """Check that an agent can play here, as far as that can be known without calling its model.

    Raises:
        EndpointError: A language model's key, price or package is missing.
        RegistryError: No agent has this name, or its class cannot be imported, or its program not be run.
    """
    check_name(name, options)
    if name.startswith(EXTERNAL):
        ExternalAgent(name.removeprefix(EXTERNAL)).check()
    if is_python(name):
        check_importable(name)
    if is_model(name):
        options.endpoint(_read_model(name, options)[2]).connect()


def _read_model(name: str, options: LlmOptions) -> tuple[Style, str, str]:
    """Style, text of the idea, and model of an agent's name."""
    parts = _MODEL.fullmatch(name)
    assert parts is not None
    style = next((known for known in STYLES if known == (parts["style"] or "tools")), None)
    if style is None:
        raise RegistryError(f"unknown style {parts['style']!r}. {nearest(parts['style'], STYLES)}")
    idea = parts["idea"]
    if idea and idea not in options.ideas:
        raise RegistryError(f"unknown idea {idea!r}. {nearest(idea, options.ideas)}")
    return style, options.ideas[idea] if idea else "", parts["model"]
