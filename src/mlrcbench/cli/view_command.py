"""The command `view`: a page on this machine that shows records and runs while they happen."""

from __future__ import annotations

import argparse

import mlrcbench
from mlrcbench.cli.options import AddCommand, a_path, natural
from mlrcbench.cli.progress import say
from mlrcbench.runs.viewer import PageServer, Watched


def add_view_command(add: AddCommand) -> None:
    """Add `view`."""
    view = add("view", _view, "Show records and runs in a browser, while they happen.")
    view.add_argument(
        "directory",
        nargs="?",
        type=a_path,
        help="a run, a record, or a folder of records (default: this home's)",
    )
    view.add_argument(
        "--port", type=natural, default=0, help="port on this machine (default: any that is free)"
    )


def _view(options: argparse.Namespace) -> int:
    """Serve the page until the user interrupts."""
    directory = options.directory or mlrcbench.home() / "records"
    with PageServer(Watched(directory), options.port) as server:
        say(f"{server.address}\nOpen this address in a browser on this machine; Ctrl-C ends it.")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("ended")
    return 0
