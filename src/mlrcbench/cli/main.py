"""The program `mlrcbench`: its commands, and how errors become exit statuses.

Exit status: 0 for success; 1 if the answer is no (a replay or a score differs, something is missing);
2 if the call or its circumstances are wrong, with a sentence on standard error that says how to fix it;
130 if the command was interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Callable, Sequence

from mlrcbench.__version__ import __version__
from mlrcbench.cli.author_commands import add_author_commands
from mlrcbench.cli.bundle_commands import add_bundle_commands
from mlrcbench.cli.catalog_commands import add_catalog_commands, add_doctor_command, choose_device
from mlrcbench.cli.export_command import add_export_command
from mlrcbench.cli.judge_command import add_judge_command
from mlrcbench.cli.options import read_secret_options
from mlrcbench.cli.progress import say
from mlrcbench.cli.record_commands import add_record_commands
from mlrcbench.cli.report_command import add_report_command
from mlrcbench.cli.run_command import add_run_command
from mlrcbench.cli.serve_command import add_server_commands
from mlrcbench.cli.view_command import add_view_command
from mlrcbench.errors import MlrcbenchError

_ADVICE = {
    errno.ENOENT: "create it, or name another path",
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room on its disk",
    errno.EADDRINUSE: "choose another port",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a stream of the caller's
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    options = _parser().parse_args(arguments)
    try:
        read_secret_options(options, visible=arguments is None)
        choose_device(getattr(options, "device", "auto"))
        status: int = options.command(options)
        return status
    except MlrcbenchError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        say("mlrcbench: interrupted", error=True)
        return 130
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (the interpreter closes it)
        return 0
    except OSError as error:
        place = error.filename2 or error.filename
        reason = f"{'' if place is None else f'{os.fsdecode(place)}: '}{error.strerror or error}"
        return _refuse(f"{reason}; {_ADVICE.get(error.errno or 0, 'name another path, or change this one')}")


def _open_missing_streams() -> None:
    """Put /dev/null where the caller has closed a standard stream, so that no other file gets its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest free number
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115 (the interpreter closes it)


def _refuse(reason: str) -> int:
    """Say why a command cannot be carried out; further lines of the reason are indented."""
    say("mlrcbench: " + reason.replace("\n", "\n  "), error=True)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlrcbench", description="Machine-learning research competitions as environments for AI agents."
    )
    parser.add_argument("--version", action="version", version=f"mlrcbench {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=help, description=help)
        subparser.set_defaults(command=command)
        return subparser

    add_catalog_commands(add)
    add_run_command(add)
    add_view_command(add)
    add_record_commands(add)
    add_author_commands(add)
    add_server_commands(add)
    add_report_command(add)
    add_bundle_commands(add)
    add_export_command(add)
    add_judge_command(add)
    add_doctor_command(add)
    return parser
