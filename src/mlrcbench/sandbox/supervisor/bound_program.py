"""A program that the kernel ends with the thread that started it; this process becomes that program."""

from __future__ import annotations

import os
import signal

from . import kernel

_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def main(parent: str, *command: str) -> None:
    """Become a program; see `start`."""
    start(int(parent), list(command))


def start(parent: int, command: list[str]) -> None:
    """Become a program that ends with its parent, or end with status 127 if that fails.

    Args:
        parent: Process number of the parent.
        command: The program and its arguments.
    """
    try:
        for number in _IGNORED_BY_PYTHON:
            signal.signal(number, signal.SIG_DFL)
        kernel.end_with(parent)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]} cannot be started: {error}\n".encode(errors="replace"))
    finally:
        os._exit(127)
