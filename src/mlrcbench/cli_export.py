"""The command `mlrcbench export`: records in the forms of other tools, one subcommand each."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from mlrcbench.exports import Episode, export_chat, export_inspect, read_episodes

EXPORT_HELP = "Write records in the forms of other tools."


def add_export_formats(export: argparse.ArgumentParser) -> None:
    """One subcommand per form; each sets `options.write`, which takes episodes and writes."""
    formats = export.add_subparsers(required=True, metavar="FORM")

    def add(name: str, help: str, out: str, write: Callable[[Sequence[Episode], Path], str]) -> None:
        found = formats.add_parser(name, help=help, description=help)
        found.add_argument("records", type=Path, nargs="+", metavar="RECORD", help="a record, or a run")
        found.add_argument("--out", type=Path, required=True, help=out)
        found.set_defaults(write=write)

    add("chat", "Conversations as JSON lines, for training.", "a file", _chat)
    add("inspect", "Logs of Inspect, one per competition and agent.", "a folder", _inspect)


def export_command(options: argparse.Namespace) -> int:
    """Read the records, write them, say what was written."""
    print(options.write(read_episodes(options.records), options.out))
    return 0


def _chat(episodes: Sequence[Episode], out: Path) -> str:
    count = export_chat(episodes, out)
    return f"{len(episodes)} episodes as {count} conversations: {out}"


def _inspect(episodes: Sequence[Episode], out: Path) -> str:
    return "\n".join(str(path) for path in export_inspect(episodes, out))
