"""The commands `check` and `calibrate`, for authors of competitions."""

from __future__ import annotations

import argparse

import mlrcbench
from mlrcbench.cli.options import AddCommand, a_path, add_common_options, count
from mlrcbench.cli.progress import Progress, say
from mlrcbench.sandbox import KINDS
from mlrcbench.score import SPLITS
from mlrcbench.testing import check_competition, format_findings, format_verdicts, run_attacks
from mlrcbench.testing.calibration import (
    claims,
    draw_ladder,
    format_claims,
    measure,
    paired_difference,
    read_claims,
    read_methods,
    tables,
)
from mlrcbench.testing.calibration.claims import FILE as CLAIMS

_UNMEASURED = "Its scale was not measured yet; `mlrcbench calibrate` does that."


def _check(options: argparse.Namespace) -> int:
    """Check or attack a competition.

    Status 1 if a check fails, or if an attack gained something that its sandbox does not declare.
    """
    competition = mlrcbench.get_competition(options.id)
    if options.attack:
        with Progress(f"attacking {options.id}", quiet=options.quiet) as progress:
            verdicts = run_attacks(
                competition,
                sandbox=options.sandbox,
                secret=options.secret,
                on_verdict=lambda verdict: progress.say(f"{verdict.attack.name}: {verdict.word}"),
            )
        say(format_verdicts(verdicts))
        return 1 if any(verdict.word == "GAINED" for verdict in verdicts) else 0
    with Progress(f"checking {options.id}", quiet=options.quiet) as progress:
        findings = check_competition(
            competition, sandbox=options.sandbox, on_finding=lambda finding: progress.say(finding.name)
        )
    say(format_findings(findings))
    rows = read_claims(competition.folder / CLAIMS)
    measured = f"What was measured of its scale:\n\n{format_claims(rows)}" if rows else _UNMEASURED
    say(f"\n{measured}")
    return 0 if all(finding.passed for finding in findings) else 1


def _calibrate(options: argparse.Namespace) -> int:
    """Measure a competition's scale; status 1 if the reference does not beat the baseline everywhere."""
    competition = mlrcbench.get_competition(options.id)
    methods = read_methods(competition, options.methods)
    log = options.out / "calibration.jsonl" if options.out else None
    with Progress(f"calibrating {options.id}", quiet=options.quiet) as progress:
        measurements = measure(
            competition,
            methods,
            instances=options.instances,
            ladder_instances=options.ladder_instances,
            repeats=options.repeats,
            sandbox=options.sandbox,
            log=log,
            on_work=progress.say,
        )
    say(tables(measurements, methods, competition.card))
    say(f"### Claims\n\n{format_claims(claims(measurements, methods, competition.card))}\n")
    if options.out:
        draw_ladder(measurements, methods, competition.card, options.out / "ladder.svg")
    gaps = [paired_difference(measurements, competition.card, split) for split in SPLITS]
    return 0 if all(gap.wins == gap.count for gap in gaps) else 1


def add_author_commands(add: AddCommand) -> None:
    """Add `check` and `calibrate`."""
    check = add("check", _check, "Check a competition, as its author; or attack it.")
    check.add_argument("id", help="a competition's id")
    check.add_argument("--attack", action="store_true", help="run the attackers instead of the checks")
    check.add_argument("--sandbox", choices=KINDS, default="auto", help="kind of sandbox (default: auto)")
    add_common_options(check)
    calibrate = add(
        "calibrate", _calibrate, "Measure a competition's scale: baseline, reference, other methods."
    )
    calibrate.add_argument("id", help="a competition's id")
    calibrate.add_argument(
        "--instances",
        type=count,
        default=10,
        help="number of instances of the public secret, from 0 (default 10)",
    )
    calibrate.add_argument("--methods", type=a_path, help="folder of further methods, with a ladder.toml")
    calibrate.add_argument(
        "--ladder-instances", type=count, help="number of instances for those (default: the same)"
    )
    calibrate.add_argument(
        "--repeats", type=count, default=2, help="runs on the first two instances (default 2)"
    )
    calibrate.add_argument(
        "--out", type=a_path, help="folder for calibration.jsonl (continued) and ladder.svg"
    )
    calibrate.add_argument("--sandbox", choices=KINDS, default="auto", help="kind of sandbox (default: auto)")
    calibrate.add_argument("--quiet", action="store_true", help="show no progress lines")
