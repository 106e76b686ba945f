"""Actions that nobody would write: one from each number."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

from mlrcbench.protocol.actions import ACTIONS

_WORDS = (
    "ls",
    "true",
    "cat method.py",
    "method.py",
    "notes/a.txt",
    "import",
    "x" * 300,
    "é" * 50,
    "data/train.npy",
)
_STRANGE = (
    "",
    " ",
    "\0",
    "\ud800",
    "a\udcffb",
    "\x1b]0;t\x07",
    "\u202e",
    "a\r\nb",
    "../x",
    "/etc/passwd",
    "a/",
    "./.",
)
_NUMBERS = ("1", "60", "1.0", " 2 ", "+3", "1_0", "0x10", "inf", "nan", "-1", "1e400", "1" * 5000, "٣")
_PLAUSIBLE: dict[str, tuple[Any, ...]] = {
    "command": ("true", "ls", "echo x > a.txt", "python -c 'print(1)'", "exit 3", "kill -9 $$"),
    "path": (
        "method.py",
        "notes/a.txt",
        "statement.md",
        "data/train.npy",
        "outputs/job-1.txt",
        "folder/",
        ".",
    ),
    "text": ("a = 1\n", "", "é\0\n"),
    "old": ("import", "zzz", ""),
    "new": ("import", ""),
    "id": (1, 2, "1"),
    "until": ("exit", "match", "quiet"),
    "pattern": ("x", "(", "(a+)+$", None),
    "start": (1, 5, "2", 10**9),
    "end": (1, None, 3),
    "timeout": (5, None, "5"),
    "seconds": (0.1, None),
    "max_seconds": (0.2, "0.1"),
}


class Odd:
    """An object that no JSON holds."""


def value(rng: Random, depth: int = 0) -> Any:
    """Any value: of any type, size and nesting."""
    makers = _FLAT if depth >= _DEPTH else (*_FLAT, *_NESTED)
    return rng.choice(makers)(rng, depth + 1)


def _list(rng: Random, depth: int) -> list[Any]:
    return [value(rng, depth) for _ in range(rng.randrange(4))]


def _object(rng: Random, depth: int) -> dict[Any, Any]:
    keys = (*_WORDS, *_STRANGE, 1, None)
    return {rng.choice(keys): value(rng, depth) for _ in range(rng.randrange(4))}


def _chain(rng: Random, depth: int) -> Any:
    nested: Any = 1
    for _ in range(rng.choice((10, 100, 3_000))):
        nested = [nested] if rng.random() < 0.5 else {"a": nested}
    return nested


_DEPTH = 3
_WHOLE = (0, 1, -1, 2**53, 2**53 + 1, 2**64, 10**308, 10**400, -(10**400), 10**4999)
_FLOATS = (0.0, -0.0, 1.0, 0.5, 1e308, 5e-324, float("inf"), float("-inf"), float("nan"))
_FLAT: tuple[Callable[[Random, int], Any], ...] = (
    lambda rng, _: rng.choice(_WHOLE),
    lambda rng, _: rng.choice(_FLOATS),
    lambda rng, _: rng.choice((True, False, None)),
    lambda rng, _: rng.choice(_WORDS),
    lambda rng, _: rng.choice(_STRANGE),
    lambda rng, _: rng.choice(_NUMBERS),
    lambda rng, _: "".join(chr(rng.randrange(1, 0x3000)) for _ in range(rng.randrange(40))),
    lambda rng, _: rng.choice((b"run", Odd(), Odd, {1, 2}, 1j, range(3), np.zeros(2), np.float64(2))),
    lambda rng, _: "y" * rng.choice((5_000, 200_000)),
)
_NESTED: tuple[Callable[[Random, int], Any], ...] = (
    _list,
    lambda rng, depth: tuple(_list(rng, depth)),
    _object,
    _chain,
)


def form(rng: Random) -> dict[Any, Any]:
    """A mapping that has something of an action's JSON form."""
    # Evaluations are slow, and a submission ends the episode, so both are rare.
    names = [name for name in ACTIONS if name not in ("evaluate", "submit") or rng.random() < 0.01]
    name = rng.choice(names)
    action: dict[Any, Any] = {"action": name}
    for field in dataclasses.fields(ACTIONS[name]):
        if rng.random() < 0.85:
            fitting = rng.random() < 0.7
            action[field.name] = rng.choice(_PLAUSIBLE[field.name]) if fitting else value(rng)
    if rng.random() < 0.1:
        action[rng.choice((*_WORDS, *_STRANGE, 1))] = value(rng)
    if rng.random() < 0.05:
        action["action"] = value(rng)
    return action


def action(seed: int) -> Any:
    """The action of a number: an object, its JSON form, that form's text, a damaged text, or anything."""
    rng = Random(seed)
    made = form(rng)
    match rng.randrange(10):
        case 0 | 1 | 2:
            return made
        case 3 | 4 | 5:
            return _text(rng, made)
        case 6 | 7:
            return _damaged(rng, _text(rng, made))
        case 8:
            return _action_object(rng, made)
        case _:
            return value(rng)


def _text(rng: Random, made: dict[Any, Any]) -> str:
    try:
        text = json.dumps(made, default=repr, ensure_ascii=rng.random() < 0.5)
    except (ValueError, RecursionError):  # a number of thousands of digits, or a deep nest
        return '{"action": "run", "command": "ls", "timeout": ' + "1" * 5_000 + "}"
    return text.replace(": 1", f": 1{'0' * 400}", 1) if rng.random() < 0.05 else text


def _damaged(rng: Random, text: str) -> str:
    place = rng.randrange(len(text) + 1)
    match rng.randrange(6):
        case 0:
            return text[:place]
        case 1:
            return text[:place] + rng.choice((*_STRANGE, "}", '"', ",", "[" * 5_000)) + text[place:]
        case 2:
            return text + text
        case 3:
            return f"```json\n{text}\n```"
        case 4:
            return text.replace('"', "'")
        case _:
            return "[" * rng.choice((1, 100, 100_000)) + text


def _action_object(rng: Random, made: dict[Any, Any]) -> Any:
    """An action object, whose fields have any types."""
    name = made.get("action")
    cls = ACTIONS[name] if isinstance(name, str) and name in ACTIONS else ACTIONS["run"]
    names = {field.name for field in dataclasses.fields(cls)}
    arguments: dict[str, Any] = {key: entry for key, entry in made.items() if key in names}
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING:
            arguments.setdefault(field.name, value(rng))
    return cls(**arguments)
