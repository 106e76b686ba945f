"""Styles in which a model asks for actions: by native tool calls, or as text.

A style turns a reply into the actions that it asks for, and the message that is kept of it. Mistakes
of the model are left in the actions, for the environment to explain; no style raises an error.

- "tools": the tool calls of the chat-completions API.
- "text": the JSON form of one action in a fenced block.
- "mlab": the six fields of the paper's MLAB agent (MLAgentBench's), of which the last two are the
  action's name and its arguments.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from mlrcbench.agents.thoughts import end_of_thought, without_thoughts
from mlrcbench.llm import Reply, ToolCall
from mlrcbench.llm.reply import extra_of, to_message
from mlrcbench.protocol.tools import to_form
from mlrcbench.text import read_json

Style = Literal["tools", "text", "mlab"]
STYLES: tuple[Style, ...] = ("tools", "text", "mlab")
_BLOCK = re.compile(r"^[ \t]*```[ \t]*(\w*)[ \t]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)
# Models decorate the fields' names: bold, headings, lists.
_NAME = re.compile(r"^[ \t#*_-]{0,9}Action[ \t*_]{0,9}:[ \t*_`\"']{0,9}([A-Za-z_ ]{1,64})", re.MULTILINE)
_INPUT = re.compile(r"^[ \t#*_-]{0,9}Action Input[ \t*_]{0,9}:[ \t*_]{0,9}", re.MULTILINE)
_MAX_TRIES = 20
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class Wish:
    """An action that a model asks for.

    Attributes:
        form: The action in a form that the environment's `step` takes.
        call: Id of the tool call that asks for the action; None if it was written as text.
        cut_off: Whether the reply reached its limit of tokens in this action, or just after it.
    """

    form: Mapping[str, Any] | str
    call: str | None = None
    cut_off: bool = False


class _Written(NamedTuple):
    """An action that is written as text, and where it begins and ends."""

    form: Mapping[str, Any] | str
    start: int
    end: int


def read_wishes(style: Style, reply: Reply) -> tuple[list[Wish], dict[str, Any]]:
    """The actions that a reply asks for, and the message that is kept of it.

    Returns:
        The wishes, an empty list if the reply holds no action; and the assistant's message.
    """
    extra = extra_of(reply.message)
    is_cut = reply.finish == "length"
    if style == "tools":
        calls = [_sendable(call) for call in reply.tool_calls]
        wishes = [Wish(to_form(call.name, call.arguments), call.id) for call in reply.tool_calls]
        if wishes and is_cut:
            wishes[-1] = dataclasses.replace(wishes[-1], cut_off=True)
        return wishes, to_message(without_thoughts(reply.text), calls, extra)
    action, text = _outside_thoughts(reply.text, _read_text if style == "text" else _read_fields)
    if action is None:
        return [], to_message(text, (), extra)
    kept = without_thoughts(text[: action.start]) + text[action.start : action.end].rstrip()
    return [Wish(action.form, cut_off=is_cut)], to_message(kept, (), extra)


def _outside_thoughts(text: str, read: Callable[[str], _Written | None]) -> tuple[_Written | None, str]:
    """The first action that is not a draft in a thought, and the text after the thoughts with drafts.

    Without an action, it is the text after all thoughts.
    """
    for _ in range(_MAX_TRIES):
        action = read(text)
        if action is None:
            return None, without_thoughts(text)
        end = end_of_thought(
            text, action.start, action.end if isinstance(action.form, Mapping) else action.start
        )
        if end is None:
            return action, text
        text = text[end:].lstrip()
    return None, without_thoughts(text)


def _read_text(text: str) -> _Written | None:
    """The first action in a fenced block, or else outside of blocks."""
    broken = None
    for block in _BLOCK.finditer(text):
        label, body = block.group(1).lower(), block.group(2)
        form = _load(body)
        if isinstance(form, Mapping) and "action" in form:
            return _Written(form, block.start(), block.end())
        if label == "action" and broken is None:
            broken = _Written(body.strip(), block.start(), block.end())
    if broken is not None:
        return broken
    for start in itertools.islice(re.finditer(r'\{\s*"action"', text), _MAX_TRIES):
        form, end = _load_at(text, start.start())
        if isinstance(form, Mapping):
            return _Written(form, start.start(), end)
    return None


def _read_fields(text: str) -> _Written | None:
    """The action of the first "Action" field and its input."""
    name = _NAME.search(text)
    if name is None:
        return None
    action = name.group(1).strip().lower().replace(" ", "_")
    field = _INPUT.search(text, name.end())
    if field is None:
        return _Written(to_form(action, None), name.start(), name.end())
    start = text.find("{", field.end())
    arguments, end = _load_at(text, start) if start >= 0 else (None, len(text))
    if isinstance(arguments, Mapping):
        return _Written(to_form(action, arguments), name.start(), end)
    rest = text[field.end() :].strip().strip("`").strip()
    return _Written(to_form(action, rest), name.start(), len(text))


def _load(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError:
        return None


def _load_at(text: str, start: int) -> tuple[Any, int]:
    """The JSON value that begins at `start`, and where it ends; None if it is not valid."""
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, len(text)
    return value, end


def _sendable(call: ToolCall) -> ToolCall:
    """A call in a form that servers accept: a plain name, and arguments that are a JSON object."""
    name = _NOT_IN_NAMES.sub("_", call.name)[:_NAME_CHARS] or "unnamed"
    arguments = call.arguments if call.arguments.strip() else "{}"
    value = _load(arguments)
    if not isinstance(value, Mapping):
        arguments = json.dumps({"malformed": arguments})
    elif not _is_strict(arguments):
        arguments = json.dumps(value)
    return dataclasses.replace(call, name=name, arguments=arguments)


def _is_strict(text: str) -> bool:
    """Whether a text is JSON for strict readers, too."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
