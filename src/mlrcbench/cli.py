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
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlrcbench
from mlrcbench.actions import name_of, parse
from mlrcbench.agents import Step, play
from mlrcbench.agents.scripted import NAMES, make_agent
from mlrcbench.card import Card
from mlrcbench.errors import ActionError, MlrcbenchError
from mlrcbench.preparation import Prepared, prepare
from mlrcbench.progress import Bar, Progress
from mlrcbench.sandbox import KINDS, isolation_report
from mlrcbench.table import table
from mlrcbench.testing import check_competition, format_findings, format_verdicts, run_attacks
from mlrcbench.verify import replay, rescore


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
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
        print(f"\n{competition.statement}")
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


def _run(options: argparse.Namespace) -> int:
    competition = mlrcbench.get_competition(options.id)
    with Progress(f"preparing {options.id}, instance {options.instance}", quiet=options.quiet) as progress:
        competition.instance(options.instance, options.tier, secret=options.secret, on_progress=progress.say)
    with mlrcbench.make(
        options.id,
        tier=options.tier,
        sandbox=options.sandbox,
        instances=[options.instance],
        secret=options.secret,
        records=options.records,
    ) as env:
        watch = _Watch(quiet=options.quiet)
        last = play(
            env,
            make_agent(options.agent, competition),
            seed=options.seed,
            on_action=watch.before,
            on_step=watch.after,
        )
        print(_summary(options, competition.card, last, watch, env.record))
    return 0


class _Watch:
    """Shows an episode as it goes: a progress line for each step, then what came of it."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.started = time.monotonic()
        self.dev: dict[str, Any] | None = None
        self._line: Progress | None = None

    def before(self, number: int, action: Any) -> None:
        """A step begins."""
        self._line = Progress(f"step {number}: {_title(action)}", quiet=self.quiet)
        self._line.__enter__()

    def after(self, step: Step) -> None:
        """A step has ended."""
        if self._line is not None:
            self._line.__exit__(None, None, None)
        first = step.observation["text"].splitlines()[0][:150]
        if "score" in step.info:
            self.dev = step.info["score"]
        if not self.quiet:
            print(f"step {step.number}: {_title(step.action)}: {first}", flush=True)


def _title(action: Any) -> str:
    try:
        parsed = parse(action)
    except ActionError:
        return "no action"
    return f"{name_of(parsed)} {getattr(parsed, 'path', getattr(parsed, 'command', ''))}".strip()


def _summary(options: argparse.Namespace, card: Card, last: Step, watch: _Watch, record: Path | None) -> str:
    """The final table."""
    test = last.info["test_score"]
    anchors = card.tier(options.tier).anchors["test"]
    rows = [
        ["competition", f"{card.id} ({options.tier}, instance {options.instance})"],
        ["agent", options.agent],
        ["dev", _figure(watch.dev, card)],
        ["test", _figure(test, card)],
        ["baseline, test", f"{anchors.baseline.value:.4g}"],
        [f"{anchors.target_kind}, test", f"{anchors.target.value:.4g}"],
        ["return", f"{last.reward:+.3f}"],
        ["steps", str(last.number)],
        ["seconds", f"{time.monotonic() - watch.started:.1f}"],
        ["record", str(record)],
    ]
    return "\n" + table(["", ""], rows)


def _figure(score: dict[str, Any] | None, card: Card) -> str:
    if score is None:
        return "not evaluated"
    if score["value"] is None:
        return f"{score['outcome']}: {score['reason']}"
    gain = 100 * score["improvement"]
    unit = "" if card.metric.unit == "1" else f" {card.metric.unit}"
    return f"{score['value']:.4g}{unit}, {gain:+.1f} % of the way to the target"


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
    print("\ncompetitions")
    for card in mlrcbench.list_competitions():
        print(f"  {card.id}: {', '.join(f'{tier.name} ({tier.data})' for tier in card.tiers.values())}")
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
    ahead = add("prepare", _prepare, "Build instances ahead of time.")
    _add_instance_options(ahead)
    ahead.add_argument("--instances", type=int, default=1, help="how many (default 1)")
    ahead.add_argument("--first", type=int, default=0, help="seed of the first (default 0)")
    ahead.add_argument("--jobs", type=int, default=1, help="how many are built at once (default 1)")
    run = add("run", _run, "Play an episode by a scripted agent.")
    _add_instance_options(run)
    run.add_argument("--agent", choices=NAMES, default="reference", help="who plays (default: reference)")
    run.add_argument("--instance", type=int, default=0, help="seed of the instance (default 0)")
    run.add_argument("--seed", type=int, default=0, help="seed of the reset (default 0)")
    run.add_argument("--sandbox", choices=KINDS, default="auto", help="(default: auto)")
    run.add_argument("--records", type=Path, help="folder for the record")
    again = add("replay", _replay, "Play a record's actions again and compare.")
    again.add_argument("directory", type=Path, help="a record")
    again.add_argument("--sandbox", choices=KINDS, help="(default: the recorded one)")
    again.add_argument("--records", type=Path, help="folder for the replay's record")
    _add_common_options(again)
    score = add("score", _score, "Score a record's artefacts again.")
    score.add_argument("directory", type=Path, help="a record")
    _add_common_options(score)
    check = add("check", _check, "Check a competition, for its author; or attack it.")
    check.add_argument("id", help="a competition's id")
    check.add_argument("--attack", action="store_true", help="run the attackers instead of the checks")
    check.add_argument("--sandbox", choices=KINDS, default="auto", help="(default: auto)")
    _add_common_options(check)
    add("doctor", _doctor, "Say what works on this machine, and what is missing.")
    return parser


def _add_instance_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", help="a competition's id")
    parser.add_argument("--tier", default="mini", help="mini or full (default: mini)")
    _add_common_options(parser)


def _add_common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--secret", help="of the instances (default: this installation's)")
    parser.add_argument("--quiet", action="store_true", help="no progress lines")


if __name__ == "__main__":
    sys.exit(main())
