"""The command line: words -> calls.

Exit status: 0 done; 1 the answer is no (a replay or a score differs, something is missing);
2 the call or its circumstances are wrong, with one line on standard error that says how to
mend it; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import mlrcbench
from mlrcbench.calibration import draw_ladder, measure, paired_difference, read_methods, tables
from mlrcbench.card import Card
from mlrcbench.cli_export import EXPORT_HELP, add_export_formats, export_command
from mlrcbench.cli_judge import JUDGE_HELP, add_judge_options, judge_command, read_judgements
from mlrcbench.cli_run import RUN_HELP, add_run_options, run_command
from mlrcbench.competition import Competition
from mlrcbench.errors import DataError, MlrcbenchError, RunError
from mlrcbench.integrations.commands import add_server_commands
from mlrcbench.paper import paper_table
from mlrcbench.preparation import Prepared, prepare, prepare_real
from mlrcbench.progress import Bar, Progress
from mlrcbench.readiness import choose_device, everything_ready, readiness_table
from mlrcbench.report import beside_paper, full_results, summarise, to_csv, to_json, to_markdown, write_html
from mlrcbench.runs import leaderboard_table, read_results
from mlrcbench.sandbox import KINDS, isolation_report
from mlrcbench.score import SPLITS
from mlrcbench.table import table
from mlrcbench.testing import check_competition, format_findings, format_verdicts, run_attacks
from mlrcbench.verify import replay, rescore


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        choose_device(getattr(options, "device", "auto"))
        status: int = options.command(options)
        return status
    except MlrcbenchError as error:
        print(f"mlrcbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mlrcbench: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (the interpreter closes it)
        return 0


def _list(options: argparse.Namespace) -> int:
    cards = mlrcbench.list_competitions()
    if options.json:
        print(json.dumps([{"id": card.id, "version": card.version, "title": card.title} for card in cards]))
        return 0
    rows = [[card.id, ", ".join(card.tiers), card.venue, card.metric.name] for card in cards]
    print(table(["competition", "tiers", "venue", "metric"], rows))
    return 0


def _show(options: argparse.Namespace) -> int:
    competition = mlrcbench.get_competition(options.id)
    card = competition.card
    print(f"{card.title} ({card.id}, version {card.version})\n{card.venue}\n\n{card.summary}\n")
    print(f"metric: {card.metric.name}, {card.metric.direction}, in {card.metric.unit}")
    print(f"Gymnasium id: {card.gymnasium_id}\nlicence: {card.licence}\ncitation: {card.citation}\n")
    print(table(["tier", "split", "baseline", "target", "kind", "budget"], _tier_rows(card)))
    if options.statement:
        print(f"\n{competition.statement_of(options.tier)}")
    return 0


def _tier_rows(card: Card) -> list[list[str]]:
    rows = []
    for tier in card.tiers.values():
        budget = (
            f"{tier.budget.steps} steps, {tier.budget.seconds:g} s, {tier.budget.evaluations} evaluations"
        )
        for split, anchors in tier.anchors.items():
            ends = [f"{anchor.value:g} ± {anchor.spread:g}" for anchor in (anchors.baseline, anchors.target)]
            rows.append([tier.name, split, *ends, anchors.target_kind, budget])
    return rows


def _prepare(options: argparse.Namespace) -> int:
    """Status 1 if an instance could not be built; the others are."""
    competition = mlrcbench.get_competition(options.id)
    if competition.card.tier(options.tier).sources:
        return _prepare_real(competition, options)
    if options.data or options.cache:
        raise DataError(
            f"the {options.tier} tier of {options.id} is generated; --data and --cache are not used"
        )
    seeds = range(options.first, options.first + options.instances)
    with Bar(f"preparing {options.id}", len(seeds), quiet=options.quiet) as bar:

        def show(one: Prepared) -> None:
            if one.instance is None:
                bar.advance(f"instance {one.seed}: FAILED: {one.error}", error=True)
            else:
                bar.advance(f"instance {one.seed}: {one.instance.root} ({one.seconds:.1f} s)")

        found = prepare(
            options.id, seeds, tier=options.tier, jobs=options.jobs, secret=options.secret, on_prepared=show
        )
    return 1 if any(one.instance is None for one in found) else 0


def _prepare_real(competition: Competition, options: argparse.Namespace) -> int:
    with Progress(f"preparing {options.id}", quiet=options.quiet) as progress:
        instance = prepare_real(
            competition,
            options.tier,
            data=options.data,
            cache=options.cache,
            quiet=options.quiet,
            on_progress=progress.say,
        )
    print(f"{options.id} ({options.tier}): {instance.root}")
    return 0


def _replay(options: argparse.Namespace) -> int:
    with Progress(f"replaying {options.directory}", quiet=options.quiet):
        found = replay(
            options.directory, sandbox=options.sandbox, secret=options.secret, records=options.records
        )
    if found.difference is None:
        print(f"{found.steps} steps: every observation and score is the same")
        return 0
    print(f"differs at {found.difference}\nthe replay's record: {found.record}")
    return 1


def _score(options: argparse.Namespace) -> int:
    with Progress(f"scoring {options.directory}", quiet=options.quiet):
        found = rescore(options.directory, secret=options.secret)
    rows = []
    for entry in found:
        again = "no artefacts were kept" if entry.again is None else f"{entry.again.value}"
        rows.append([entry.folder, f"{entry.recorded.value}", again, "same" if entry.matches else "DIFFERS"])
    print(table(["evaluation", "recorded", "again", ""], rows))
    return 0 if all(entry.matches for entry in found) else 1


def _check(options: argparse.Namespace) -> int:
    """Status 1 if a check is wrong, or an attack gained something that its sandbox does not declare."""
    competition = mlrcbench.get_competition(options.id)
    if options.attack:
        with Progress(f"attacking {options.id}", quiet=options.quiet) as progress:
            verdicts = run_attacks(
                competition,
                sandbox=options.sandbox,
                secret=options.secret,
                on_verdict=lambda verdict: progress.say(f"{verdict.attack.name}: {verdict.word}"),
            )
        print(format_verdicts(verdicts))
        return 1 if any(verdict.word == "GAINED" for verdict in verdicts) else 0
    with Progress(f"checking {options.id}", quiet=options.quiet) as progress:
        findings = check_competition(
            competition, sandbox=options.sandbox, on_finding=lambda finding: progress.say(finding.name)
        )
    print(format_findings(findings))
    return 0 if all(finding.passed for finding in findings) else 1


def _calibrate(options: argparse.Namespace) -> int:
    """Status 1 if the reference is not better than the baseline on every instance."""
    competition = mlrcbench.get_competition(options.id)
    methods = read_methods(competition, options.methods)
    log = options.out / "calibration.jsonl" if options.out else None
    with Progress(f"calibrating {options.id}", quiet=options.quiet) as progress:
        found = measure(
            competition,
            methods,
            instances=options.instances,
            ladder_instances=options.ladder_instances,
            repeats=options.repeats,
            sandbox=options.sandbox,
            log=log,
            on_work=progress.say,
        )
    print(tables(found, methods, competition.card))
    if options.out:
        draw_ladder(found, methods, competition.card, options.out / "ladder.svg")
    gaps = [paired_difference(found, competition.card, split) for split in SPLITS]
    return 0 if all(gap.wins == gap.count for gap in gaps) else 1


def _report(options: argparse.Namespace) -> int:
    """The leaderboard of runs on the terminal, or whatever files are asked for."""
    if options.paper:
        print(paper_table(beside_paper(full_results(options.run))))
    elif not options.run:
        raise RunError("there is nothing to report: name the directory of a run, or --paper")
    if not options.run:
        return 0
    results = [result for directory in options.run for result in read_results(directory)]
    print(leaderboard_table(results))
    title = options.title or ", ".join(directory.name for directory in options.run)
    found = summarise(results, title, read_judgements(options.run))
    for path, write in ((options.markdown, to_markdown), (options.csv, to_csv), (options.json, to_json)):
        if path:
            path.write_text(write(found), "utf-8")
    if options.html:
        with Progress(f"writing {options.html}", quiet=options.quiet):
            write_html(found, options.html)
    return 0


def _doctor(_: argparse.Namespace) -> int:
    """What this machine offers; status 1 if agent code cannot be confined on it."""
    home = mlrcbench.home()
    space = shutil.disk_usage(next(path for path in [home, *home.parents] if path.exists()))
    print(f"mlrcbench {mlrcbench.__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(f"{os.cpu_count()} cores; {space.free >> 30} GiB free for {home}")
    safe = None
    for kind, report in isolation_report().items():
        print(f"\nsandbox {kind}: {'works' if report['works'] else 'does not work: ' + report['reason']}")
        if report["works"] and safe is None and kind != "process":
            safe = kind
        lines = [
            *(f"  + {words}" for words in report["enforced"]),
            *(f"  - {words}" for words in report["missing"]),
        ]
        print("\n".join(lines if report["works"] else []))
    print(f"\n{readiness_table(everything_ready())}")
    print(
        f"\nsandbox='auto' is {safe!r}"
        if safe
        else "\nPROBLEM: no sandbox confines agent code here; see above"
    )
    return 0 if safe else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlrcbench", description="Machine-learning research competitions as environments for AI agents."
    )
    parser.add_argument("--version", action="version", version=f"mlrcbench {mlrcbench.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=help, description=help)
        found.set_defaults(command=command)
        return found

    listing = add("list", _list, "List the competitions.")
    listing.add_argument("--json", action="store_true", help="as JSON")
    show = add("show", _show, "Show a competition's card.")
    show.add_argument("id", help="a competition's id")
    show.add_argument("--statement", action="store_true", help="also what the agent reads")
    show.add_argument("--tier", default="mini", help="whose statement (default: mini)")
    ahead = add("prepare", _prepare, "Build instances ahead of time.")
    _add_instance_options(ahead)
    ahead.add_argument("--instances", type=int, default=1, help="how many (default 1)")
    ahead.add_argument("--first", type=int, default=0, help="seed of the first (default 0)")
    ahead.add_argument("--jobs", type=int, default=1, help="how many are built at once (default 1)")
    ahead.add_argument("--data", type=Path, help="full tier: a folder that holds the raw data already")
    ahead.add_argument("--cache", type=Path, help="full tier: where downloads go (default: mlrcbench's home)")
    _add_common_options(add_run_options(add("run", run_command, RUN_HELP)))
    again = add("replay", _replay, "Play a record's actions again and compare.")
    again.add_argument("directory", type=Path, help="a record")
    again.add_argument("--sandbox", choices=KINDS, help="(default: the recorded one)")
    again.add_argument("--records", type=Path, help="folder for the replay's record")
    _add_common_options(again)
    score = add("score", _score, "Score a record's artefacts again.")
    score.add_argument("directory", type=Path, help="a record")
    _add_common_options(score)
    _add_author_commands(add)
    add_server_commands(add)
    report = add("report", _report, "Show results.")
    report.add_argument("run", type=Path, nargs="*", help="directories of runs")
    report.add_argument("--paper", action="store_true", help="also the results of MLRC-Bench's paper")
    report.add_argument(
        "--html", type=Path, help="write one page that holds everything, to open in a browser"
    )
    report.add_argument("--markdown", type=Path, help="write the tables as Markdown")
    report.add_argument("--csv", type=Path, help="write one line per episode")
    report.add_argument("--json", type=Path, help="write all figures as JSON")
    report.add_argument("--title", help="of the page (default: the directories' names)")
    report.add_argument("--quiet", action="store_true", help="no progress lines")
    add_export_formats(add("export", export_command, EXPORT_HELP))
    add_judge_options(add("judge", judge_command, JUDGE_HELP))
    add("doctor", _doctor, "Say what works on this machine, and what is missing.")
    return parser


def _add_author_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    check = add("check", _check, "Check a competition, for its author; or attack it.")
    check.add_argument("id", help="a competition's id")
    check.add_argument("--attack", action="store_true", help="run the attackers instead of the checks")
    check.add_argument("--sandbox", choices=KINDS, default="auto", help="(default: auto)")
    _add_common_options(check)
    calibrate = add(
        "calibrate", _calibrate, "Measure a competition's scale: baseline, reference, other methods."
    )
    calibrate.add_argument("id", help="a competition's id")
    calibrate.add_argument(
        "--instances", type=int, default=10, help="of the public secret, from 0 (default 10)"
    )
    calibrate.add_argument("--methods", type=Path, help="folder of further methods, with a ladder.toml")
    calibrate.add_argument("--ladder-instances", type=int, help="how many for those (default: as many)")
    calibrate.add_argument(
        "--repeats", type=int, default=2, help="runs on the first two instances (default 2)"
    )
    calibrate.add_argument("--out", type=Path, help="folder for calibration.jsonl (continued) and ladder.svg")
    calibrate.add_argument("--sandbox", choices=KINDS, default="auto", help="(default: auto)")
    calibrate.add_argument("--quiet", action="store_true", help="no progress lines")


def _add_instance_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", help="a competition's id")
    parser.add_argument("--tier", default="mini", help="mini or full (default: mini)")
    _add_common_options(parser)


def _add_common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--secret", help="of the instances (default: this installation's)")
    parser.add_argument(
        "--device", default="auto", help="full tier: auto, cpu, cuda or cuda:N (default: auto)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress lines")
