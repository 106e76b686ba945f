"""The command `mlrcbench judge`: models rate the ideas of episodes, and how that goes with results."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from mlrcbench.cli_run import bill
from mlrcbench.errors import RunError
from mlrcbench.judge import (
    Rating,
    Subject,
    rate_all,
    read_judgement,
    subjects_of,
    summarise_ratings,
    write_judgement,
)
from mlrcbench.judge.calls import Calls
from mlrcbench.judge.summary import CALLS, FOLDER
from mlrcbench.llm import Endpoint
from mlrcbench.progress import Bar
from mlrcbench.runs import read_results
from mlrcbench.table import table

JUDGE_HELP = "Have language models rate the ideas of episodes, and compare with their scores."


def add_judge_options(parser: argparse.ArgumentParser) -> None:
    """Those of this command alone."""
    parser.add_argument("run", type=Path, nargs="+", help="directories of runs")
    parser.add_argument("--model", nargs="+", required=True, help="the judge, or several")
    parser.add_argument("--explainer-model", help="who explains the code (default: the first judge)")
    parser.add_argument("--base-url", help="of an OpenAI-compatible API (default: OpenAI's own)")
    parser.add_argument(
        "--key-variable",
        default="OPENAI_API_KEY",
        help="environment variable of the key (default: %(default)s)",
    )
    parser.add_argument(
        "--samples", type=int, default=3, help="ratings of each kind by each judge (default 3)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="episodes at a time (default 1)")
    parser.add_argument("--money-budget", type=float, help="US dollars that each model may cost from here on")
    parser.add_argument("--prices", help="a file of prices, before those that are shipped")
    parser.add_argument("--out", type=Path, help="folder of the study (default: judge/ in the first run)")
    parser.add_argument("--quiet", action="store_true", help="no progress lines")


def judge_command(options: argparse.Namespace) -> int:
    """Status 1 if a judge gave no ratings for something."""
    if options.samples < 1 or options.jobs < 1:
        raise RunError("a study needs at least one sample, and one episode at a time")
    subjects, left_out = subjects_of(one for directory in options.run for one in read_results(directory))
    if not subjects:
        raise RunError(
            f"there is nothing to judge: {_counts(left_out)}; judge agents that change the starter"
        )
    explainer = _endpoint(options, options.explainer_model or options.model[0])
    judges = [_endpoint(options, name) for name in dict.fromkeys(options.model)]
    if explainer.model in options.model and not options.quiet:
        print(f"mlrcbench: {explainer.model} judges its own explanations", file=sys.stderr)
    folder = options.out or options.run[0] / FOLDER
    calls = Calls(folder / CALLS)
    try:
        ratings = _rate(options, subjects, calls, explainer, judges)
    finally:
        calls.close()
        if not options.quiet:
            print(f"used now: {bill(calls.spent_now)}; in all: {bill(calls.spent)}", file=sys.stderr)
    summary = {
        "explainer": explainer.model,
        "samples": options.samples,
        "left_out": left_out,
        "usage": dataclasses.asdict(calls.spent),
        **summarise_ratings(ratings),
    }
    write_judgement(folder, ratings, summary)
    print(correlation_table(summary))
    return 1 if summary["missing"] else 0


def correlation_table(summary: dict[str, Any]) -> str:
    """For a terminal."""
    rows = [
        [one["judge"], one["variant"], one["dimension"], one["kind"], _figure(one), str(one["codes"])]
        for one in summary["correlations"]
    ]
    return table(["judge", "", "dimension", "", "correlation with improvement (95 %)", "codes"], rows)


def read_judgements(directories: list[Path]) -> list[dict[str, Any]]:
    """The summaries of studies that lie in runs."""
    return [found for directory in directories if (found := read_judgement(directory)) is not None]


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

        def tell(one: Subject, found: list[Rating]) -> None:
            missing = [rating.reason for rating in found if rating.ratings is None]
            words = f"{len(missing)} ratings missing: {missing[0]}" if missing else "rated"
            if missing or not options.quiet:
                bar.advance(f"{one.episode}: {words}", error=True)

        return rate_all(
            subjects, calls, explainer, judges, samples=options.samples, jobs=options.jobs, on_subject=tell
        )


def _figure(one: dict[str, Any]) -> str:
    if one["value"] is None:
        return "not defined"
    return f"{one['value']:+.2f} ({one['lower']:+.2f} to {one['upper']:+.2f})"


def _counts(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count} x {reason}" for reason, count in left_out.items()) or "no episodes"
