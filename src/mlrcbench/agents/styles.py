"""How a model says what it does: by native tool calls, or in writing.

A style turns a reply into the actions it asks for and the message that is kept of it. What a model
got wrong in an action is left in it, for the environment to explain; no style raises.

- "tools": the tool calls of the chat-completions API.
- "text": one action's JSON form in a fenced block.
- "mlab": the six fields of the paper's MLAB agent (MLAgentBench's), of which the last two are the
  action's name and its arguments.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mlrcbench.llm import Reply, ToolCall
from mlrcbench.llm.reply import to_message
from mlrcbench.tools import to_form

Style = Literal["tools", "text", "mlab"]
STYLES: tuple[Style, ...] = ("tools", "text", "mlab")
_BLOCK = re.compile(r"^[ \t]*```[ \t]*(\w*)[ \t]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)
# Models decorate the fields' names: bold, headings, lists.
_NAME = re.compile(r"^[ \t#*_-]{0,9}Action[ \t*_]{0,9}:[ \t*_`\"']{0,9}([A-Za-z_ ]{1,64})", re.MULTILINE)
_INPUT = re.compile(r"^[ \t#*_-]{0,9}Action Input[ \t*_]{0,9}:[ \t*_]{0,9}", re.MULTILINE)
_MAX_TRIES = 20
_THOUGHT_ENDS = (
    "</think>"  # what some servers leave of a reasoning model's thoughts, drafts of actions included
)
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class Wish:
    """An action that a model asks for.

    Attributes:
        form: What the environment's `step` takes.
        call: Id of the tool call that asks for it; None if it was written.
    """

    form: Mapping[str, Any] | str
    call: str | None = None


def read_wishes(style: Style, reply: Reply) -> tuple[list[Wish], dict[str, Any]]:
    """What a reply asks for, and the message that is kept of it.

    Returns:
        The wishes, none if there is no action in the reply; the assistant's message.
    """
    text = reply.text.rpartition(_THOUGHT_ENDS)[2].lstrip()
    if style == "tools":
        calls = [_sendable(call) for call in reply.tool_calls]
        wishes = [Wish(to_form(call.name, call.arguments), call.id) for call in reply.tool_calls]
        return wishes, to_message(text, calls)
    found = _read_text(text) if style == "text" else _read_fields(text)
    if found is None:
        return [], to_message(text, ())
    form, end = found
    return [Wish(form)], to_message(text[:end].rstrip(), ())


def _read_text(text: str) -> tuple[Mapping[str, Any] | str, int] | None:
    """The first action in a fenced block, or else in the open; and where it ends."""
    broken = None
    for block in _BLOCK.finditer(text):
        label, body = block.group(1).lower(), block.group(2)
        form = _load(body)
        if isinstance(form, Mapping) and "action" in form:
            return form, block.end()
        if label == "action" and broken is None:
            broken = body.strip(), block.end()
    if broken is not None:
        return broken
    for start in itertools.islice(re.finditer(r'\{\s*"action"', text), _MAX_TRIES):
        form, end = _load_at(text, start.start())
        if isinstance(form, Mapping):
            return form, end
    return None


def _read_fields(text: str) -> tuple[Mapping[str, Any] | str, int] | None:
    """The action of the first "Action" field and its input; and where that ends."""
    name = _NAME.search(text)
    if name is None:
        return None
    action = name.group(1).strip().lower().replace(" ", "_")
    given = _INPUT.search(text, name.end())
    if given is None:
        return to_form(action, None), name.end()
    start = text.find("{", given.end())
    arguments, end = _load_at(text, start) if start >= 0 else (None, len(text))
    if isinstance(arguments, Mapping):
        return to_form(action, arguments), end
    rest = text[given.end() :].strip().strip("`").strip()
    return to_form(action, rest), len(text)


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _load_at(text: str, start: int) -> tuple[Any, int]:
    """The JSON value that begins at `start`, and where it ends; None if there is none."""
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, len(text)
    return value, end


def _sendable(call: ToolCall) -> ToolCall:
    """A call as servers take it back: a plain name, and arguments that are a JSON object."""
    name = _NOT_IN_NAMES.sub("_", call.name)[:_NAME_CHARS] or "unnamed"
    if isinstance(_load(call.arguments or "{}"), Mapping):
        return ToolCall(call.id, name, call.arguments or "{}")
    return ToolCall(call.id, name, json.dumps({"malformed": call.arguments}))
