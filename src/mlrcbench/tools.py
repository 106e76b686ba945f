"""The actions as tools: what a language model that calls functions needs.

Everything follows from the classes in `actions`: a tool's name, its description, and the JSON
schema of its arguments. The dialects differ in the names of the keys around these three. A call
is a step of the environment, whatever the model wrote in it.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mlrcbench.actions import ACTIONS, Action, example
from mlrcbench.errors import RegistryError, nearest

Dialect = Literal["json", "openai", "anthropic"]
_TYPES = {str: "string", int: "integer", float: "number"}
_ERRORS = "If it cannot be done, the answer begins with 'error:' and says what to do instead."


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call of a tool came to.

    Attributes:
        text: What the model is told: the observation's text.
        is_error: Whether the action could not be understood or carried out.
        reward: As `step` returned it.
        terminated: Whether the episode is over because the work was submitted.
        truncated: Whether it is over because the budget is spent.
        info: As `step` returned it.
    """

    text: str
    is_error: bool
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return self.terminated or self.truncated

    def __str__(self) -> str:
        return self.text


def tool_specs(dialect: Dialect = "json") -> list[dict[str, Any]]:
    """All actions as tools, each call a new object.

    Args:
        dialect: "json": name, description, parameters (a JSON schema); "openai": as the `tools`
            of a chat completion; "anthropic": as the `tools` of a message.

    Raises:
        RegistryError: There is no such dialect.
    """
    if dialect not in _DIALECTS:
        raise RegistryError(f"there is no dialect {dialect!r}. {nearest(dialect, _DIALECTS)}")
    return [_DIALECTS[dialect](name, _describe(cls), _schema(cls)) for name, cls in ACTIONS.items()]


def to_form(name: str, arguments: Mapping[str, Any] | str | None) -> Mapping[str, Any] | str:
    """A call as the JSON form of an action, which `step` takes; what is wrong with it, `step` finds.

    Args:
        name: Of the tool.
        arguments: An object, the JSON text of one, or nothing for no arguments.
    """
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            return str(arguments)
    if arguments is None or isinstance(arguments, Mapping):
        return {**(arguments or {}), "action": name}
    return json.dumps(arguments)


class ToolCalls:
    """An environment's side of tool calls."""

    step: Callable[[Any], tuple[dict[str, Any], float, bool, bool, dict[str, Any]]]

    def tool_specs(self, dialect: Dialect = "json") -> list[dict[str, Any]]:
        """See `mlrcbench.tools.tool_specs`."""
        return tool_specs(dialect)

    def call_tool(self, name: str, arguments: Mapping[str, Any] | str | None = None) -> ToolResult:
        """Make a step from a call of a tool.

        Args:
            name: Of the tool.
            arguments: An object, or its JSON text as models write it.

        Raises:
            ResetNeeded: There is no episode, or it is over.
            SandboxError, ScoringError, SnapshotError: The infrastructure failed; the episode is over.
        """
        observation, reward, terminated, truncated, info = self.step(to_form(name, arguments))
        return ToolResult(observation["text"], bool(info["error"]), reward, terminated, truncated, info)


def _describe(cls: type[Action]) -> str:
    """What it does, an example, what an error looks like."""
    fields = dataclasses.fields(cls)
    parts = [inspect.cleandoc(cls.__doc__ or "").replace("\n\n", " ").replace("\n", " ")]
    if fields:
        made = example(cls)
        shown = {
            field.name: getattr(made, field.name) for field in fields if field.metadata["example"] is not None
        }
        parts.append(f"Example arguments: {json.dumps(shown)}.")
    return " ".join([*parts, _ERRORS])


def _schema(cls: type[Action]) -> dict[str, Any]:
    """The JSON schema of an action's arguments."""
    fields = dataclasses.fields(cls)
    return {
        "type": "object",
        "properties": {field.name: _property(field) for field in fields},
        "required": [field.name for field in fields if field.default is dataclasses.MISSING],
        "additionalProperties": False,
    }


def _property(field: dataclasses.Field[Any]) -> dict[str, Any]:
    told = field.metadata
    kind = _TYPES[told["kind"]]
    found: dict[str, Any] = {"description": told["help"], "type": kind}
    if field.default is None:
        found["type"] = [kind, "null"]
    if field.default is not dataclasses.MISSING:
        found["default"] = field.default
    if told["choices"]:
        found["enum"] = list(told["choices"])
    elif kind == "string":
        found["maxLength"] = told["most"]
    elif kind == "integer":
        found["minimum"] = 1
    else:
        found["exclusiveMinimum"] = 0
    return found


def _plain(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "description": description, "parameters": schema}


def _openai(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": _plain(name, description, schema)}


def _anthropic(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "description": description, "input_schema": schema}


_DIALECTS: dict[str, Callable[[str, str, dict[str, Any]], dict[str, Any]]] = {
    "json": _plain,
    "openai": _openai,
    "anthropic": _anthropic,
}
