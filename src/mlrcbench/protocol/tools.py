"""The actions as tools: what a language model that calls functions needs.

Everything follows from the classes in `actions`: a tool's name, its description, and the JSON
schema of its arguments. The dialects differ only in the keys around these three. Every call is a
step of the environment, whatever the model wrote in it.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mlrcbench.errors import RegistryError, nearest
from mlrcbench.protocol.actions import ACTIONS, Action, example
from mlrcbench.text import read_json

Dialect = Literal["json", "openai", "responses", "anthropic", "gemini"]
_TYPES = {str: "string", int: "integer", float: "number"}
_ERRORS = "If the action cannot be carried out, the answer begins with 'error:' and says what to do instead."


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a tool call.

    Attributes:
        text: What the model reads: the observation's text.
        is_error: Whether the action could not be understood or carried out.
        reward: The step's reward.
        terminated: Whether the episode is over because the work was submitted.
        truncated: Whether it is over because the budget is spent.
        info: The step's info.
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
    """All actions as tools; each call returns new objects.

    Args:
        dialect: "json": name, description, parameters (a JSON schema); "openai": as the `tools`
            of a chat completion; "responses": as those of OpenAI's Responses API; "anthropic": as the
            `tools` of a message; "gemini": as the `function_declarations` of a tool of Gemini.

    Raises:
        RegistryError: The dialect does not exist.
    """
    if dialect not in _DIALECTS:
        raise RegistryError(f"unknown dialect {dialect!r}. {nearest(dialect, _DIALECTS)}")
    return [_DIALECTS[dialect](name, _describe(cls), _schema(cls)) for name, cls in ACTIONS.items()]


def to_form(name: str, arguments: Mapping[str, Any] | str | None) -> Mapping[str, Any] | str:
    """A call as the JSON form of an action, for `step`, which reports whatever is wrong with it.

    Args:
        name: Name of the tool.
        arguments: An object, the JSON text of one, or None for no arguments.
    """
    if isinstance(arguments, str):
        text = arguments if arguments.strip() else "{}"
        try:
            arguments = read_json(text)
            if isinstance(arguments, str):  # some servers encode the arguments twice
                arguments = read_json(arguments)
        except ValueError:
            return text
    if arguments is None or isinstance(arguments, Mapping):
        return {**(arguments or {}), "action": name}
    return json.dumps(arguments)


class ToolCalls:
    """A mixin that lets an environment answer tool calls."""

    step: Callable[[Any], tuple[dict[str, Any], float, bool, bool, dict[str, Any]]]

    def tool_specs(self, dialect: Dialect = "json") -> list[dict[str, Any]]:
        """See `mlrcbench.protocol.tools.tool_specs`."""
        return tool_specs(dialect)

    def call_tool(self, name: str, arguments: Mapping[str, Any] | str | None = None) -> ToolResult:
        """Take a step that a tool call describes.

        Args:
            name: Name of the tool.
            arguments: An object, or its JSON text as models write it.

        Raises:
            ResetNeeded: No episode is running.
            SandboxError, ScoringError, SnapshotError: The infrastructure failed; the episode is over.
        """
        observation, reward, terminated, truncated, info = self.step(to_form(name, arguments))
        return ToolResult(observation["text"], bool(info["error"]), reward, terminated, truncated, info)


def _describe(cls: type[Action]) -> str:
    """A tool's description: what it does, an example, what an error looks like."""
    fields = dataclasses.fields(cls)
    parts = [inspect.cleandoc(cls.__doc__ or "").replace("\n\n", " ").replace("\n", " ")]
    if fields:
        action = example(cls)
        arguments = {
            field.name: getattr(action, field.name)
            for field in fields
            if field.metadata["example"] is not None
        }
        parts.append(f"Example arguments: {json.dumps(arguments)}.")
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
    """The JSON schema of one argument."""
    facts = field.metadata
    kind = _TYPES[facts["kind"]]
    schema: dict[str, Any] = {"description": facts["help"], "type": kind}
    if field.default is None:
        schema["type"] = [kind, "null"]
    if field.default is not dataclasses.MISSING:
        schema["default"] = field.default
    if facts["choices"]:
        schema["enum"] = list(facts["choices"])
    elif kind == "string":
        schema["maxLength"] = facts["max_bytes"]
    elif kind == "integer":
        schema["minimum"] = 1
    else:
        schema["exclusiveMinimum"] = 0
    return schema


def _plain(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "description": description, "parameters": schema}


def _openai(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": _plain(name, description, schema)}


def _responses(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    # A strict schema would forbid optional arguments.
    return {"type": "function", **_plain(name, description, schema), "strict": False}


def _gemini(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "description": description, "parameters_json_schema": schema}


def _anthropic(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "description": description, "input_schema": schema}


_DIALECTS: dict[str, Callable[[str, str, dict[str, Any]], dict[str, Any]]] = {
    "json": _plain,
    "openai": _openai,
    "responses": _responses,
    "anthropic": _anthropic,
    "gemini": _gemini,
}
