"""The commands of `mlrcbench` as Markdown, from the program's own description of them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mlrcbench.cli.main import _parser


def list_commands() -> str:
    """A section for each command: what it does, how it is called, and its options."""
    return "\n".join(_sections("mlrcbench", _parser()))


def _sections(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """The section of one command, or those of the commands below it."""
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in nested:
        for word, subparser in action.choices.items():
            yield from _sections(f"{name} {word}", subparser)
    if nested:
        return
    yield f"## `{name}`\n\n{parser.description}\n"
    for title, actions in _groups(parser):
        rows = [f"| {_called(action)} | {_help(action)} |" for action in actions]
        yield "\n".join([f"| {title} | |", "|---|---|", *rows, ""])


def _groups(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[argparse.Action]]]:
    """Titles of groups with their arguments, without `--help`."""
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if not isinstance(action, argparse._HelpAction)]
        actions = [action for action in actions if action.help != argparse.SUPPRESS]
        titles = {"positional arguments": "argument", "options": "option"}
        if actions:
            yield titles.get(str(group.title), f"option ({group.title})"), actions


def _called(action: argparse.Action) -> str:
    """How an argument is written, for example `--jobs N`."""
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    value = value.replace("|", "\\|") if isinstance(value, str) else " ".join(value)
    many = {"+": f"{value} ...", "*": f"[{value} ...]", "?": f"[{value}]"}
    value = "" if action.nargs == 0 else many.get(str(action.nargs), value)
    return f"`{' '.join([*action.option_strings[:1], value]).strip()}`"


def _help(action: argparse.Action) -> str:
    """An argument's description."""
    text = str(action.help or "").replace("%%", "%").replace("%(default)s", str(action.default))
    return text.replace("|", "\\|").replace("\n", " ")
