"""The commands `bundle`, `verify`, `retest` and `board`: results that others can check."""

from __future__ import annotations

import argparse
import dataclasses
import json

from mlrcbench.cli.options import AddCommand, a_path, add_common_options, count
from mlrcbench.cli.progress import Progress, say
from mlrcbench.runs.board import write_board
from mlrcbench.runs.bundles import (
    Check,
    open_bundle,
    read_agent_card,
    read_policy,
    retest,
    retest_json,
    retest_table,
    verify,
    write_bundle,
)
from mlrcbench.sandbox import KINDS
from mlrcbench.storage.durable import replace_text
from mlrcbench.text import one_line, table


def add_bundle_commands(add: AddCommand) -> None:
    """Add `bundle`, `verify`, `retest` and `board`."""
    bundle = add("bundle", _bundle, "Put an agent's results into one file that others can check.")
    bundle.add_argument("run", type=a_path, help="the directory of a run")
    bundle.add_argument("--out", type=a_path, required=True, metavar="FILE.mlrc", help="file to write")
    bundle.add_argument("--agent", help="the agent; needed if the run has several")
    bundle.add_argument(
        "--card", type=a_path, metavar="FILE", help="a TOML file that says who made the agent"
    )
    add_common_options(bundle)
    check = add("verify", _verify, "Check that a bundle is complete and keeps the rules of a board.")
    check.add_argument("bundle", type=a_path, help="a file that mlrcbench bundle wrote")
    check.add_argument("--policy", type=a_path, metavar="FILE", help="a TOML file that says what is accepted")
    check.add_argument("--json", type=a_path, help="write all checks as JSON")
    add_common_options(check)
    again = add("retest", _retest, "Evaluate a bundle's final states on instances that its agent never saw.")
    again.add_argument("bundle", type=a_path, help="a file that mlrcbench bundle wrote")
    again.add_argument(
        "--instances", type=count, default=5, help="how many fresh instances, at least 2 (default: 5)"
    )
    again.add_argument("--sandbox", choices=KINDS, default="auto", help="kind of sandbox (default: auto)")
    again.add_argument("--json", type=a_path, help="write all figures as JSON")
    add_common_options(again)
    board = add("board", _board, "Write a static page over many bundles.")
    board.add_argument("folder", type=a_path, help="a folder of bundles, and of what verify and retest wrote")
    board.add_argument("--out", type=a_path, required=True, metavar="SITE", help="folder to write")
    board.add_argument("--title", default="Board", help="title of the page (default: Board)")
    board.add_argument("--quiet", action="store_true", help="show no progress lines")


def _bundle(options: argparse.Namespace) -> int:
    card = read_agent_card(options.card) if options.card else None
    with Progress(f"writing {options.out}", quiet=options.quiet):
        packed = write_bundle(options.run, options.out, agent=options.agent, card=card, secret=options.secret)
    for path in packed.manifest.left_out:
        say(f"mlrcbench: {path} is not a plain file, and was left out", error=True)
    say(f"{packed.path}: {packed.episodes} episodes of {packed.manifest.agent}\nsha256 {packed.sha256}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    policy = read_policy(options.policy) if options.policy else None
    with Progress(f"verifying {options.bundle}", quiet=options.quiet), open_bundle(options.bundle) as bundle:
        checks = verify(bundle, policy, secret=options.secret)
    if options.json:
        rows = [dataclasses.asdict(check) for check in checks]
        replace_text(options.json, json.dumps({"bundle": bundle.digest, "checks": rows}, indent=1) + "\n")
    failed = [check for check in checks if check.passed is False]
    unchecked = [check for check in checks if check.passed is None]
    if failed or unchecked:
        say(table(["", "of", "check", ""], [*map(_row, failed), *map(_row, unchecked)]))
    passed = len(checks) - len(failed) - len(unchecked)
    say(f"{passed} checks passed, {len(failed)} failed, {len(unchecked)} could not be made here")
    return 1 if failed else 0


def _retest(options: argparse.Namespace) -> int:
    with Progress(f"retesting {options.bundle}", quiet=options.quiet), open_bundle(options.bundle) as bundle:
        retests = retest(bundle, instances=options.instances, secret=options.secret, sandbox=options.sandbox)
        figures = retest_json(bundle, retests)
    if options.json:
        replace_text(options.json, json.dumps(figures, indent=1, allow_nan=False) + "\n")
    say(retest_table(retests))
    return 1 if any(one.verdict in ("overstated", "unclear") for one in retests) else 0


def _board(options: argparse.Namespace) -> int:
    with Progress(f"writing {options.out}", quiet=options.quiet):
        rows, refused = write_board(options.folder, options.out, options.title)
    for name, reason in refused.items():
        say(f"mlrcbench: {one_line(name)} is not on the board: {one_line(reason)}", error=True)
    say(f"{options.out / 'index.html'}: {len(rows)} entries")
    return 1 if refused else 0


def _row(check: Check) -> list[str]:
    verdict = "FAILED" if check.passed is False else "not checked"
    return [verdict, check.subject, check.name, check.sentence]
