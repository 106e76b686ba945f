"""What the modules of commands share: how to add a command, and common options."""

from __future__ import annotations

import argparse
import dataclasses
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from mlrcbench.env.settings import Settings
from mlrcbench.errors import DataError, RunError

_MAX_SECRET_BYTES = 10_000
_MIN_SECRET_CHARS = 16
_SECRET_FILE_HELP = "a file with the secret of the instances, which only you can read; /dev/stdin for a pipe"


def count(text: str) -> int:
    """A whole number of at least 1, from a text of the command line.

    Raises:
        argparse.ArgumentTypeError: The text is not such a number.
    """
    return _number(text, 1)


def natural(text: str) -> int:
    """A whole number of at least 0, such as a seed, from a text of the command line.

    Raises:
        argparse.ArgumentTypeError: The text is not such a number.
    """
    return _number(text, 0)


def a_path(text: str) -> Path:
    """A path, from a text of the command line; an empty one would be the folder in which the command runs.

    Raises:
        argparse.ArgumentTypeError: The text is empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("a path is expected, not an empty text; '.' is this folder")
    return Path(text)


def _number(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"a whole number of at least {least} is expected, not {text[:40]!r}")
    return number


class AddCommand(Protocol):
    """A function that adds a command to the program's parser."""

    def __call__(
        self, name: str, command: Callable[[argparse.Namespace], int], help: str
    ) -> argparse.ArgumentParser:
        """Add a command; returns its parser, for options."""
        ...


def add_instance_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that use one competition's instances."""
    parser.add_argument("id", help="a competition's id")
    add_settings(parser, "tier")
    add_common_options(parser)


def add_settings(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add options of an episode, as `Settings` declares them.

    Args:
        parser: Parser of a command.
        names: Names of the options; all options by default.
    """
    for option in dataclasses.fields(Settings):
        if names and option.name not in names:
            continue
        default, facts = option.default, option.metadata
        note = "" if default is None else f" (default: {default})"
        parser.add_argument(
            f"--{option.name}",
            default=default,
            choices=facts["choices"] or None,
            help=f"{facts['help']}{note}",
            **facts["form"],
        )
        if option.name == "budget":
            parser.add_argument("--steps", type=count, help="steps of an episode, like --budget steps=N")
            parser.add_argument(
                "--evaluations", type=count, help="evaluations of an episode, like --budget evaluations=N"
            )
        if option.name == "secret":
            parser.add_argument("--secret-file", type=a_path, metavar="FILE", help=_SECRET_FILE_HELP)


def read_secret_options(options: argparse.Namespace, *, visible: bool) -> None:
    """Read the secret from the file that a command names, and store it as the option `secret`.

    Args:
        options: The options of a command, which need not have a secret.
        visible: Whether other processes can see the command line.

    Raises:
        DataError: The file cannot be used, or the secret itself is in a command line that others can see.
    """
    path, text = getattr(options, "secret_file", None), getattr(options, "secret", None)
    if path is not None:
        if text is not None:
            raise DataError("--secret and --secret-file exclude each other; give one of them")
        options.secret = _read_secret(path)
    elif visible and text not in (None, "public"):
        raise DataError(
            "every program on this machine, the agent's too, can read a command line: write the secret to "
            "a file that only you can read, and name it with --secret-file (/dev/stdin for a pipe)"
        )


def _read_secret(path: Path) -> str:
    with path.open("rb") as file:
        info = path.stat()
        if stat.S_ISREG(info.st_mode) and info.st_mode & 0o077:
            raise DataError(f"other users can read {path}, and agent code may run as one: chmod 600 {path}")
        data = file.read(_MAX_SECRET_BYTES)
    try:
        secret = data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text; write a secret of letters and digits to it") from None
    if len(secret.strip()) < _MIN_SECRET_CHARS:
        raise DataError(
            f"the secret in {path} can be guessed: it has fewer than {_MIN_SECRET_CHARS} characters; "
            "make one, for example with: python -c 'import secrets; print(secrets.token_hex())'"
        )
    return secret


def read_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The options of an episode from a command, by name, for `mlrcbench.make` and `run`.

    Raises:
        RunError: A part of the budget is given twice.
    """
    values = {option.name: getattr(options, option.name, None) for option in dataclasses.fields(Settings)}
    for name in ("steps", "evaluations"):
        number = getattr(options, name, None)
        if number is not None:
            values["budget"] = {**(values["budget"] or {}), name: number}
            if (options.budget or {}).get(name, number) != number:
                raise RunError(f"--{name} and --budget {name}=... differ; give one of them")
    return {name: value for name, value in values.items() if value is not None}


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that build instances or run agent code."""
    add_settings(parser, "secret")
    add_running_options(parser)


def add_running_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a command runs, whatever it does."""
    parser.add_argument(
        "--device", default="auto", help="full tier: auto, cpu, cuda or cuda:N (default: auto)"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress lines")
