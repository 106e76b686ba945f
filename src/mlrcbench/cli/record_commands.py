"""The commands `replay` and `score`, which check records."""

from __future__ import annotations

import argparse
from pathlib import Path

from mlrcbench.cli.options import AddCommand, a_path, add_common_options
from mlrcbench.cli.progress import Progress, say
from mlrcbench.env.replay import replay, rescore
from mlrcbench.errors import RecordError
from mlrcbench.runs.plan import EPISODES, PLAN
from mlrcbench.runs.results import RECORDS
from mlrcbench.sandbox import KINDS
from mlrcbench.score import Score
from mlrcbench.text import percent, table


def add_record_commands(add: AddCommand) -> None:
    """Add `replay` and `score`."""
    again = add("replay", _replay, "Play a record's actions again and compare the results.")
    again.add_argument("directory", type=a_path, help="a record")
    again.add_argument("--sandbox", choices=KINDS, help="kind of sandbox (default: the strongest here)")
    again.add_argument("--records", type=a_path, help="folder for the replay's record")
    add_common_options(again)
    score = add("score", _score, "Score a record's artefacts again.")
    score.add_argument("directory", type=a_path, help="a record")
    add_common_options(score)


def _record(path: Path) -> Path:
    """The path of a record, not that of a run.

    Raises:
        RecordError: It is a run, which holds several.
    """
    if (path / PLAN).exists():
        raise RecordError(f"{path} is a run; name one of its records, {path}/{EPISODES}/NAME/{RECORDS}/...")
    return path


def _replay(options: argparse.Namespace) -> int:
    with Progress(f"replaying {options.directory}", quiet=options.quiet):
        result = replay(
            _record(options.directory),
            sandbox=options.sandbox,
            secret=options.secret,
            records=options.records,
        )
    if result.difference is None:
        say(f"{result.steps} steps: every observation and score is the same")
        return 0
    say(f"differs at {result.difference}\nthe replay's record: {result.record}")
    return 1


def _score(options: argparse.Namespace) -> int:
    with Progress(f"scoring {options.directory}", quiet=options.quiet):
        scores = rescore(_record(options.directory), secret=options.secret)
    rows = []
    for entry in scores:
        again = "no artefacts were kept" if entry.again is None else f"{entry.again.value}"
        same = "same" if entry.matches else "DIFFERS"
        rows.append([entry.folder, f"{entry.recorded.value}", again, same, _improvement(entry.again)])
    say(table(["evaluation", "recorded", "again", "", "improvement"], rows))
    return 0 if all(entry.matches for entry in scores) else 1


def _improvement(score: Score | None) -> str:
    """The improvement with its standard error; "-" without a score."""
    if score is None or score.improvement is None:
        return "-"
    return percent(score.improvement, score.improvement_error)
