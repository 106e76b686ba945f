"""Actions: what an agent can do, and their JSON form.

Each action is a frozen dataclass. Its fields are the keys of the JSON form next to `"action"`; its
docstring and the fields' `help` are written for the agent. To add an action, add a class here and a
case in `Episode.perform`. Text from an agent is parsed strictly: anything wrong with it becomes an
`ActionError` that says how to correct it, and never anything worse.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from typing_extensions import TypeIs

from mlrcbench.errors import MAX_SHOWN_CHARS, ActionError, nearest, shortened
from mlrcbench.protocol.json_text import is_cut_off
from mlrcbench.text import read_json

MAX_JSON_CHARS = 4_000_000
MAX_TEXT_CHARS = 1_000_000
MAX_COMMAND_BYTES = 100_000
MAX_PATH_CHARS = 4_096
MAX_PATTERN_BYTES = 1_000
UNTIL = ("exit", "match", "quiet")
_MAX_NUMBER_CHARS = 400
_MAX_FORM_CHARS = 13_000_000  # two longest texts, every character of which is escaped, and a path
_MAX_NESTED_CHARS = 100_000
_MAX_LEVELS = 100
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def _argument(
    help: str,
    *,
    kind: type,
    max_bytes: int = 0,
    choices: tuple[str, ...] = (),
    example: Any = None,
    **default: Any,
) -> Any:
    """A field of an action: its help text, JSON type, largest length, legal values, and an example."""
    metadata = {"help": help, "kind": kind, "max_bytes": max_bytes, "choices": choices, "example": example}
    return dataclasses.field(metadata=metadata, **default)


@dataclass(frozen=True, slots=True)
class Run:
    """Run a shell command in the workspace. Each command runs in a new shell; only files persist."""

    command: str = _argument(
        "The command, which bash executes.", kind=str, max_bytes=MAX_COMMAND_BYTES, example="python main.py"
    )
    timeout: float | None = _argument(
        "Seconds until the command is stopped. The default, and the maximum, is the limit for a command.",
        kind=float,
        default=None,
    )


@dataclass(frozen=True, slots=True)
class StartJob:
    """Start a job: a shell command that keeps running while you do other things, such as a long training.

    The answer gives the job's id and the file that receives its output, which read_file can read at
    any time. A few jobs can run at once. An evaluation ends them, and so does the end of the episode.
    """

    command: str = _argument(
        "The command, which bash executes.", kind=str, max_bytes=MAX_COMMAND_BYTES, example="python train.py"
    )
    timeout: float | None = _argument(
        "Seconds until the job is stopped; by default the rest of the episode.", kind=float, default=None
    )


@dataclass(frozen=True, slots=True)
class WaitJob:
    """Wait for a job and see its new output. However long it takes, waiting is one step."""

    id: int = _argument("The job's id.", kind=int, example=1)
    until: str = _argument(
        "'exit': wait until the job ends; 'match': until a line of its new output matches `pattern`; "
        "'quiet': until it has printed nothing for `seconds`. The end of the job always ends the wait.",
        kind=str,
        max_bytes=8,
        choices=UNTIL,
        default="exit",
    )
    pattern: str | None = _argument(
        "For 'match': a Python regular expression, searched for in each line since the last match.",
        kind=str,
        max_bytes=MAX_PATTERN_BYTES,
        default=None,
    )
    seconds: float | None = _argument(
        "For 'quiet': how many seconds without output; 10 by default.", kind=float, default=None
    )
    max_seconds: float | None = _argument(
        "The longest time to wait, in seconds; by default the limit for a command, and at most the rest of "
        "the episode.",
        kind=float,
        default=None,
    )


@dataclass(frozen=True, slots=True)
class KillJob:
    """End a job and every process that it has started, and see its new output."""

    id: int = _argument("The job's id.", kind=int, example=1)


@dataclass(frozen=True, slots=True)
class ReadFile:
    """Read lines of a text file in the workspace."""

    path: str = _argument(
        "Path of the file, relative to the workspace.",
        kind=str,
        max_bytes=MAX_PATH_CHARS,
        example="method.py",
    )
    start: int = _argument("First line to read, counted from 1.", kind=int, default=1)
    end: int | None = _argument("Last line to read; by default as many lines as fit.", kind=int, default=None)


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Create or replace a text file in the workspace."""

    path: str = _argument(
        "Path of the file, relative to the workspace; missing folders are created.",
        kind=str,
        max_bytes=MAX_PATH_CHARS,
        example="notes.md",
    )
    text: str = _argument(
        "The whole new content of the file.",
        kind=str,
        max_bytes=MAX_TEXT_CHARS,
        example="Tried a larger step.\n",
    )


@dataclass(frozen=True, slots=True)
class EditFile:
    """Replace one passage of a text file. The passage must occur in the file exactly once."""

    path: str = _argument(
        "Path of the file, relative to the workspace.",
        kind=str,
        max_bytes=MAX_PATH_CHARS,
        example="method.py",
    )
    old: str = _argument(
        "The passage to replace, copied exactly, with its white space.",
        kind=str,
        max_bytes=MAX_TEXT_CHARS,
        example="rate = 0.1",
    )
    new: str = _argument(
        "The text to put in its place.", kind=str, max_bytes=MAX_TEXT_CHARS, example="rate = 0.3"
    )


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Evaluate the workspace on the dev split. This uses one evaluation, and the files are remembered."""


@dataclass(frozen=True, slots=True)
class Submit:
    """End the episode. The best evaluated state, or the last state, is scored on the test split."""


Action: TypeAlias = Run | StartJob | WaitJob | KillJob | ReadFile | WriteFile | EditFile | Evaluate | Submit

ACTIONS: dict[str, type[Action]] = {
    "run": Run,
    "start_job": StartJob,
    "wait_job": WaitJob,
    "kill_job": KillJob,
    "read_file": ReadFile,
    "write_file": WriteFile,
    "edit_file": EditFile,
    "evaluate": Evaluate,
    "submit": Submit,
}
_NAMES = {cls: name for name, cls in ACTIONS.items()}


def to_json(action: Action) -> dict[str, Any]:
    """The JSON form of an action, without arguments that have their default value.

    For example `{"action": "run", "command": "python main.py"}`.
    """
    form: dict[str, Any] = {"action": name_of(action)}
    for field in dataclasses.fields(action):
        value = getattr(action, field.name)
        if value != field.default:
            form[field.name] = value
    return form


def name_of(action: Action) -> str:
    """The name of an action, for example "run"."""
    return _NAMES[type(action)]


def is_action(value: object) -> TypeIs[Action]:
    """Whether a value is an action, rather than the JSON form of one."""
    return type(value) in _NAMES


def parse(source: Action | Mapping[str, Any] | str) -> Action:
    """An action from an action, from its JSON form, or from that form's text.

    Raises:
        ActionError: The source is not an action; the message says what was expected.
    """
    form: Any = source
    if is_action(source):
        values = {field.name: getattr(source, field.name) for field in dataclasses.fields(source)}
        form = {"action": name_of(source), **values}
    if isinstance(form, str):
        form = _load(form)
    if not isinstance(form, Mapping):
        raise ActionError(f"an action must be a JSON object; {_example()}")
    name = form.get("action")
    if not isinstance(name, str) or name not in ACTIONS:
        near = nearest(name[:MAX_SHOWN_CHARS] if isinstance(name, str) else "", ACTIONS)
        raise ActionError(f"unknown action {_sent(name)}. {near}")
    return _build(name, {key: value for key, value in form.items() if key != "action"})


def example(cls: type[Action]) -> Action:
    """An action of a class, made of its fields' examples and defaults."""
    examples = {field.name: field.metadata["example"] for field in dataclasses.fields(cls)}
    return cls(**{name: value for name, value in examples.items() if value is not None})


@functools.cache
def describe() -> str:
    """All actions as text for an agent: JSON form, meaning, arguments."""
    lines = []
    for name, cls in ACTIONS.items():
        fields = dataclasses.fields(cls)
        form = ", ".join([f'"action": "{name}"', *(f'"{field.name}": ...' for field in fields)])
        lines.append(f"{{{form}}}\n    {(cls.__doc__ or '').strip()}")
        for field in fields:
            optional = "" if field.default is dataclasses.MISSING else " (optional)"
            lines.append(f"    {field.name}{optional}: {field.metadata['help']}")
        if fields:
            lines.append(f"    Example: {json.dumps(to_json(example(cls)))}")
    return "\n".join(lines)


def _load(text: str) -> Any:
    if len(text) > MAX_JSON_CHARS:
        raise ActionError(f"the action has {len(text):,} characters; at most {MAX_JSON_CHARS:,} are allowed")
    try:
        return read_json(text, parse_int=_whole)
    except ValueError as error:
        if is_cut_off(text):
            raise ActionError(
                f"the action is not valid JSON: it ends too early, after {len(text):,} characters; if it was "
                "cut off because it is too long for one answer, write a long file in parts"
            ) from None
        raise ActionError(f"the action is not valid JSON ({error}); {_example()}") from None


def _example() -> str:
    return 'for example {"action": "run", "command": "python main.py"}'


def _build(name: str, arguments: Mapping[Any, Any]) -> Action:
    cls = ACTIONS[name]
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in arguments:
        if key not in fields:
            known = ", ".join(fields) or "no arguments"
            raise ActionError(f"{name} has no argument {_sent(key)}; it takes {known}")
    values: dict[str, Any] = {}
    for key, field in fields.items():
        if key in arguments:
            values[key] = _checked(f"{name}'s {key!r}", field, arguments[key])
        elif field.default is dataclasses.MISSING:
            raise ActionError(f"{name} needs the argument {key!r}: {field.metadata['help']}")
    return cls(**values)


def _checked(label: str, field: dataclasses.Field[Any], value: Any) -> Any:
    """One argument, after checking its type and size; a number may be written as text."""
    kind, choices = field.metadata["kind"], field.metadata["choices"]
    if value is None and field.default is None:
        return None
    if kind is str:
        _check_text(label, value, field.metadata["max_bytes"])
        if choices and value not in choices:
            raise ActionError(f"{label} cannot be {_sent(value)}. {nearest(value, choices)}")
        return value
    number = _number(value)
    if kind is int:
        if number is None or not 1 <= number <= 1 << 53 or number != int(number):
            raise ActionError(f"{label} must be a whole number from 1 to 2**53, not {_sent(value)}")
        return int(number)
    if number is None or not 0 < number <= sys.float_info.max:
        raise ActionError(f"{label} must be a number above 0, not {_sent(value)}")
    return number


def _number(value: Any) -> int | float | None:
    """The number that a value is or plainly means; None if it means none."""
    if isinstance(value, str):
        text = value.strip() if len(value) <= _MAX_NUMBER_CHARS else ""
        if not _NUMBER.fullmatch(text):
            return None
        return int(text) if text.isdecimal() else float(text)
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return value if numeric else None


def _whole(digits: str) -> int | Decimal:
    """A whole number of a JSON text; Python refuses to read very long ones as an `int`."""
    return int(digits) if len(digits) <= _MAX_NUMBER_CHARS else Decimal(digits)


def _sent(value: Any) -> str:
    """A value as it was sent: a string quoted, anything else in JSON; cut for a message."""
    try:
        if isinstance(value, str | Decimal):
            text = str(value) if isinstance(value, Decimal) else repr(value[: 2 * MAX_SHOWN_CHARS])
        else:
            text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = f"a value of the type {type(value).__name__}"
    return shortened(text)


def _check_text(label: str, value: Any, max_bytes: int) -> None:
    if not isinstance(value, str):
        raise ActionError(f"{label} must be a string, not {type(value).__name__}")
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise ActionError(f"{label} is not valid Unicode at character {error.start}") from None
    if size > max_bytes:
        raise ActionError(f"{label} has {size:,} bytes; at most {max_bytes:,} are allowed")
    if "\0" in value and max_bytes <= MAX_COMMAND_BYTES:
        raise ActionError(f"{label} must not contain a NUL character")


def recordable(action: Any) -> Any:
    """An action in the form that a record holds: its JSON form, its text, or None if it has neither.

    A form that is longer than any legal action's, or nested as none is, counts as none.
    """
    if isinstance(action, str):
        return action if len(action) <= MAX_JSON_CHARS else {"characters": len(action)}
    try:
        text = json.dumps(to_json(action) if is_action(action) else action, allow_nan=False)
        form = json.loads(text) if len(text) <= _MAX_FORM_CHARS else None
    except (TypeError, ValueError, RecursionError):
        return None
    if isinstance(form, dict) and not any(isinstance(value, dict | list) for value in form.values()):
        return form
    return None if len(text) > _MAX_NESTED_CHARS or _is_deeper(form, _MAX_LEVELS) else form


def _is_deeper(form: Any, levels: int) -> bool:
    """Whether lists and objects of a JSON form lie in each other more than some levels deep."""
    if not isinstance(form, dict | list):
        return False
    inner = form.values() if isinstance(form, dict) else form
    return levels == 0 or any(_is_deeper(value, levels - 1) for value in inner)


def replayable(entry: Any) -> Any:
    """The action behind an entry that `recordable` made, or one that gets the same answer."""
    if isinstance(entry, dict) and entry.keys() == {"characters"}:
        return " " * entry["characters"]
    return entry
