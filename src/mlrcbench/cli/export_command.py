"""The command `mlrcbench export`: records, or a competition, in the formats of other tools."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from mlrcbench.cli.options import AddCommand, a_path, add_settings, count, natural
from mlrcbench.cli.progress import say
from mlrcbench.errors import RecordError
from mlrcbench.integrations.harbor import export_harbor, export_harbor_dataset
from mlrcbench.integrations.trackers import TRACKERS, log_run
from mlrcbench.runs.exports import ExportedEpisode, export_chat, export_inspect, read_episodes

_HELP = "Write records, or a competition, in the formats of other tools."
_HARBOR_HELP = "Write a competition's instance as a task of Harbor; it holds the answers."


def add_export_command(add_command: AddCommand) -> None:
    """Add `export`, with a subcommand for each format, which sets `options.write` to its function."""
    export = add_command("export", _export, _HELP)
    formats = export.add_subparsers(required=True, metavar="FORM")

    def add(name: str, help: str, out: str, write: Callable[[Sequence[ExportedEpisode], Path], str]) -> None:
        parser = formats.add_parser(name, help=help, description=help)
        parser.add_argument("records", type=a_path, nargs="+", metavar="RECORD", help="a record, or a run")
        parser.add_argument("--out", type=a_path, required=True, help=out)
        parser.set_defaults(write=write)

    add("chat", "Write conversations as JSON lines, for training.", "file to write", _chat)
    add("inspect", "Write logs of Inspect, one per competition and agent.", "folder to write", _inspect)
    for tracker in TRACKERS:
        text = f"Log the episodes of a run with {tracker}, each as a run of its own."
        parser = formats.add_parser(tracker, help=text, description=text)
        parser.add_argument("run", type=a_path, help="a run's directory")
        parser.add_argument("--project", default="mlrcbench", help="the project (default: mlrcbench)")
        parser.set_defaults(command=_track, tracker=tracker)
    harbor = formats.add_parser("harbor", help=_HARBOR_HELP, description=_HARBOR_HELP)
    harbor.add_argument("id", help="a competition's id")
    harbor.add_argument("directory", type=a_path, help="folder of the task")
    harbor.add_argument("--instance", type=natural, default=0, help="seed of the instance (default 0)")
    harbor.add_argument("--instances", type=count, help="write a dataset of so many, from --instance on")
    harbor.add_argument(
        "--torch-index", metavar="URL", help="index of PyTorch's CPU builds for the images, if they need it"
    )
    harbor.add_argument("--tier", default="mini", help="mini or full (default: mini)")
    add_settings(harbor, "secret")
    harbor.set_defaults(command=_harbor)


def _export(options: argparse.Namespace) -> int:
    """Read the records, write them, and print what was written; status 1 if a record cannot be read."""
    broken: list[str] = []
    episodes = read_episodes(options.records, broken.append)
    for reason in broken:
        say(f"mlrcbench: left out: {reason}", error=True)
    if not episodes:
        raise RecordError("no record can be read; see above")
    say(options.write(episodes, options.out))
    return 1 if broken else 0


def _chat(episodes: Sequence[ExportedEpisode], out: Path) -> str:
    count = export_chat(episodes, out)
    return f"{len(episodes)} episodes as {count} conversations: {out}"


def _inspect(episodes: Sequence[ExportedEpisode], out: Path) -> str:
    return "\n".join(str(path) for path in export_inspect(episodes, out))


def _track(options: argparse.Namespace) -> int:
    count = log_run(options.run, options.tracker, options.project)
    say(f"{count} episodes as runs of {options.tracker}, in the project {options.project}")
    return 0


def _harbor(options: argparse.Namespace) -> int:
    settings = {name: getattr(options, name) for name in ("instance", "tier", "secret", "torch_index")}
    if options.instances is None:
        say(str(export_harbor(options.id, options.directory, **settings)))
    else:
        settings["instances"] = options.instances
        say(str(export_harbor_dataset(options.id, options.directory, **settings)))
    return 0
