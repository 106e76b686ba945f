"""The command `mlrcbench judge`: models rate the ideas of episodes; ratings are compared with scores."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from mlrcbench.cli.options import AddCommand, a_path, count
from mlrcbench.cli.progress import Bar, say
from mlrcbench.cli.run_command import bill
from mlrcbench.errors import RunError
from mlrcbench.llm import Endpoint
from mlrcbench.runs import read_results
from mlrcbench.runs.judge import (
    Rating,
    Subject,
    rate_all,
    read_judgement,
    subjects_of,
    summarise_ratings,
    write_judgement,
)
from mlrcbench.runs.judge.calls import Calls
from mlrcbench.runs.judge.findings import CALLS, FOLDER
from mlrcbench.text import table

_HELP = "Let language models rate the ideas of episodes, and compare the ratings with the scores."


def add_judge_command(add: AddCommand) -> None:
    """Add `judge`."""
    parser = add("judge", _judge, _HELP)
    parser.add_argument("run", type=a_path, nargs="+", help="directories of runs")
    parser.add_argument("--model", nargs="+", required=True, help="name of the judge; several are possible")
    parser.add_argument(
        "--explainer-model", help="the model that explains the code (default: the first judge)"
    )
    parser.add_argument("--base-url", help="address of an OpenAI-compatible API (default: OpenAI's own)")
    parser.add_argument(
        "--key-variable",
        default="OPENAI_API_KEY",
        help="environment variable of the key (default: %(default)s)",
    )
    parser.add_argument(
        "--samples", type=count, default=3, help="number of ratings of each kind by each judge (default 3)"
    )
    parser.add_argument("--jobs", type=count, default=1, help="episodes at a time (default 1)")
    parser.add_argument("--money-budget", type=float, help="US dollars that each model may cost from now on")
    parser.add_argument("--prices", help="a file of prices, which is read before the shipped prices")
    parser.add_argument("--out", type=a_path, help="folder of the study (default: judge/ in the first run)")
    parser.add_argument("--quiet", action="store_true", help="show no progress lines")


def _judge(options: argparse.Namespace) -> int:
    """Rate the ideas of episodes; status 1 if a judge's rating is missing."""
    subjects, left_out = subjects_of(
        result for directory in options.run for result in read_results(directory)
    )
    if not subjects:
        raise RunError(
            f"there is nothing to judge: {_counts(left_out)}; judge agents that change the starter"
        )
    explainer = _endpoint(options, options.explainer_model or options.model[0])
    judges = [_endpoint(options, name) for name in dict.fromkeys(options.model)]
    if explainer.model in options.model and not options.quiet:
        say(f"mlrcbench: {explainer.model} judges its own explanations", error=True)
    folder = options.out or options.run[0] / FOLDER
    calls = Calls(folder / CALLS)
    try:
        ratings = _rate(options, subjects, calls, explainer, judges)
    finally:
        calls.close()
        if not options.quiet:
            say(f"used now: {bill(calls.spent_now)}; in all: {bill(calls.spent)}", error=True)
    summary = {
        "explainer": explainer.model,
        "samples": options.samples,
        "left_out": left_out,
        "usage": dataclasses.asdict(calls.spent),
        **summarise_ratings(ratings),
    }
    write_judgement(folder, ratings, summary)
    say(correlation_table(summary))
    return 1 if summary["missing"] else 0


def correlation_table(summary: dict[str, Any]) -> str:
    """A table of correlations for a terminal."""
    rows = [
        [row["judge"], row["variant"], row["dimension"], row["kind"], _figure(row), str(row["codes"])]
        for row in summary["correlations"]
    ]
    return table(["judge", "", "dimension", "", "correlation with improvement (95 %)", "codes"], rows)


def read_judgements(directories: list[Path]) -> list[dict[str, Any]]:
    """The summaries of the studies in the directories of runs."""
    summaries = (read_judgement(directory) for directory in directories)
    return [summary for summary in summaries if summary is not None]


def _endpoint(options: argparse.Namespace, model: str) -> Endpoint:
    return Endpoint(
        model,
        options.base_url,
        options.key_variable,
        money_budget=options.money_budget,
        prices=options.prices,
    )


def _rate(
    options: argparse.Namespace,
    subjects: list[Subject],
    calls: Calls,
    explainer: Endpoint,
    judges: list[Endpoint],
) -> list[Rating]:
    with Bar("judging", len(subjects), quiet=options.quiet) as bar:

        def tell(subject: Subject, ratings: list[Rating]) -> None:
            missing = [rating.reason for rating in ratings if rating.ratings is None]
            outcome = f"{len(missing)} ratings missing: {missing[0]}" if missing else "rated"
            if missing or not options.quiet:
                bar.advance(f"{subject.episode}: {outcome}", error=True)

        return rate_all(
            subjects, calls, explainer, judges, samples=options.samples, jobs=options.jobs, on_subject=tell
        )


def _figure(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "not defined"
    return f"{row['value']:+.2f} ({row['lower']:+.2f} to {row['upper']:+.2f})"


def _counts(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count} x {reason}" for reason, count in left_out.items()) or "no episodes"
