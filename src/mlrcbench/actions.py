"""Actions: what an agent can do, and their JSON form.

Each action is a frozen dataclass; its fields are the JSON form's keys beside `"action"`, its
docstring and the fields' `help` are written for the agent. To add an action is to add a class
here and a case in the environment. Text from an agent is parsed strictly: whatever is wrong
with it becomes an `ActionError` that says how to put it right, and never anything worse.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from typing_extensions import TypeIs

from mlrcbench.errors import ActionError, nearest

MAX_JSON_CHARS = 4_000_000
MAX_TEXT_CHARS = 1_000_000
MAX_COMMAND_BYTES = 100_000
MAX_PATH_CHARS = 4_096
MAX_PATTERN_BYTES = 1_000
UNTIL = ("exit", "match", "quiet")


def _argument(
    help: str,
    *,
    kind: type,
    most: int = 0,
    choices: tuple[str, ...] = (),
    example: Any = None,
    **default: Any,
) -> Any:
    """A field of an action: what it means, its JSON type, its largest length, what it may be, an example."""
    metadata = {"help": help, "kind": kind, "most": most, "choices": choices, "example": example}
    return dataclasses.field(metadata=metadata, **default)


@dataclass(frozen=True, slots=True)
class Run:
    """Run a shell command in the workspace; each starts afresh, only files remain."""

    command: str = _argument(
        "What bash executes.", kind=str, most=MAX_COMMAND_BYTES, example="python main.py"
    )
    timeout: float | None = _argument(
        "Seconds until it is stopped; at most, and by default, the card's limit.", kind=float, default=None
    )


@dataclass(frozen=True, slots=True)
class StartJob:
    """Start a shell command that runs on while you do other things, such as a long training.

    The answer names its id, and the file its output goes to, which read_file reads at any time.
    A few can run at once. An evaluation ends them, and so does the end of the episode.
    """

    command: str = _argument(
        "What bash executes.", kind=str, most=MAX_COMMAND_BYTES, example="python train.py"
    )
    timeout: float | None = _argument(
        "Seconds until it is stopped; by default the rest of the episode.", kind=float, default=None
    )


@dataclass(frozen=True, slots=True)
class WaitJob:
    """Wait for a job, in one step however long it takes, and see its new output."""

    id: int = _argument("The job's id.", kind=int, example=1)
    until: str = _argument(
        "'exit': until it ends; 'match': until a line of its new output matches `pattern`; "
        "'quiet': until it has printed nothing for `seconds`. Its end always ends the wait.",
        kind=str,
        most=8,
        choices=UNTIL,
        default="exit",
    )
    pattern: str | None = _argument(
        "For 'match': a Python regular expression, searched in each line since the last match.",
        kind=str,
        most=MAX_PATTERN_BYTES,
        default=None,
    )
    seconds: float | None = _argument("For 'quiet'; 10 by default.", kind=float, default=None)
    max_seconds: float | None = _argument(
        "The longest to wait; by default the limit of a command, at most the rest of the episode.",
        kind=float,
        default=None,
    )


@dataclass(frozen=True, slots=True)
class KillJob:
    """End a job, with everything it has started, and see its new output."""

    id: int = _argument("The job's id.", kind=int, example=1)


@dataclass(frozen=True, slots=True)
class ReadFile:
    """Read lines of a text file of the workspace."""

    path: str = _argument("A file of the workspace.", kind=str, most=MAX_PATH_CHARS, example="method.py")
    start: int = _argument("First line, counted from 1.", kind=int, default=1)
    end: int | None = _argument("Last line; by default as many as fit.", kind=int, default=None)


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Create or replace a text file of the workspace."""

    path: str = _argument(
        "A file of the workspace; its folders are made.", kind=str, most=MAX_PATH_CHARS, example="notes.md"
    )
    text: str = _argument(
        "The whole new content.", kind=str, most=MAX_TEXT_CHARS, example="Tried a larger step.\n"
    )


@dataclass(frozen=True, slots=True)
class EditFile:
    """Replace one passage of a text file; `old` must stand in it exactly once."""

    path: str = _argument("A file of the workspace.", kind=str, most=MAX_PATH_CHARS, example="method.py")
    old: str = _argument(
        "The passage, with its white space.", kind=str, most=MAX_TEXT_CHARS, example="rate = 0.1"
    )
    new: str = _argument("What to put in its place.", kind=str, most=MAX_TEXT_CHARS, example="rate = 0.3")


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Evaluate the workspace on the dev split; counted, and the files are remembered."""


@dataclass(frozen=True, slots=True)
class Submit:
    """End the episode; the best evaluated state, or the last, is scored on the test split."""


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
    """The JSON form, without arguments that have their default.

    For example `{"action": "run", "command": "python main.py"}`.
    """
    form: dict[str, Any] = {"action": name_of(action)}
    for field in dataclasses.fields(action):
        value = getattr(action, field.name)
        if value != field.default:
            form[field.name] = value
    return form


def name_of(action: Action) -> str:
    """For example "run"."""
    return _NAMES[type(action)]


def is_action(value: object) -> TypeIs[Action]:
    """Whether a value is an action, rather than the JSON form of one."""
    return type(value) in _NAMES


def parse(source: Action | Mapping[str, Any] | str) -> Action:
    """An action from itself, from its JSON form, or from that form's text.

    Raises:
        ActionError: It is none; the text says what was expected.
    """
    form: Any = to_json(source) if is_action(source) else source
    if isinstance(form, str):
        form = _load(form)
    if not isinstance(form, Mapping):
        raise ActionError(f"an action must be a JSON object; {_example()}")
    name = form.get("action")
    if not isinstance(name, str) or name not in ACTIONS:
        shown = repr(name)[:80]
        raise ActionError(f"unknown action {shown}. {nearest(str(name)[:80], ACTIONS)}")
    return _build(name, {key: value for key, value in form.items() if key != "action"})


def example(cls: type[Action]) -> Action:
    """An action of a kind, from its fields' examples and defaults."""
    given = {field.name: field.metadata["example"] for field in dataclasses.fields(cls)}
    return cls(**{name: value for name, value in given.items() if value is not None})


@functools.cache
def describe() -> str:
    """All actions for a reader: JSON form, meaning, arguments."""
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
        raise ActionError(f"the action has {len(text):,} characters; at most {MAX_JSON_CHARS:,} are read")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ActionError(f"the action is not valid JSON ({error}); {_example()}") from None


def _example() -> str:
    return 'for example {"action": "run", "command": "python main.py"}'


def _build(name: str, arguments: Mapping[Any, Any]) -> Action:
    cls = ACTIONS[name]
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in arguments:
        if key not in fields:
            takes = ", ".join(fields) or "no arguments"
            raise ActionError(f"{name} has no argument {str(key)[:80]!r}; it takes {takes}")
    for key, field in fields.items():
        if key in arguments:
            _check(name, field, arguments[key])
        elif field.default is dataclasses.MISSING:
            raise ActionError(f"{name} needs the argument {key!r}: {field.metadata['help']}")
    return cls(**arguments)


def _check(name: str, field: dataclasses.Field[Any], value: Any) -> None:
    """One argument's type and size."""
    kind, shown = field.metadata["kind"], f"{name}'s {field.name!r}"
    if value is None and field.default is None:
        return
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is str:
        _check_text(shown, value, field.metadata["most"])
        if field.metadata["choices"] and value not in field.metadata["choices"]:
            raise ActionError(f"{shown} cannot be {value!r}. {nearest(value, field.metadata['choices'])}")
    elif kind is int and not (numeric and isinstance(value, int) and 1 <= value <= 1 << 53):
        raise ActionError(f"{shown} must be a whole number of at least 1, not {str(value)[:80]}")
    elif kind is float and not (numeric and math.isfinite(value) and value > 0):
        raise ActionError(f"{shown} must be a number above 0, not {str(value)[:80]}")


def _check_text(shown: str, value: Any, most: int) -> None:
    if not isinstance(value, str):
        raise ActionError(f"{shown} must be a string, not {type(value).__name__}")
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise ActionError(f"{shown} is not valid Unicode at character {error.start}") from None
    if size > most:
        raise ActionError(f"{shown} has {size:,} bytes; at most {most:,} are taken")
    if "\0" in value and most <= MAX_COMMAND_BYTES:
        raise ActionError(f"{shown} must not contain a NUL character")
