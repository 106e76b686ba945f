"""Write `docs/attacks.md`: every attack of the kit, under every sandbox that works, for root and for a user.

    python tools/attacks_table.py measure FILE [KIND ...]    once as root, once as an ordinary user
    python tools/attacks_table.py write FILE ...

To measure takes several minutes for each kind of sandbox.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlrcbench
from mlrcbench.sandbox import isolation_report
from mlrcbench.testing import RESIDUALS, run_attacks

KINDS = ("strong", "uid", "landlock", "bubblewrap")
WORDS = ("held", "residual", "GAINED", "not run")
PAGE = """# The attacks

This page lists the results of `mlrcbench.testing.run_attacks` on the template competition. It was
written by [a script](../tools/attacks_table.py) ({system}, mlrcbench {version}), which ran the attacks
in each kind of sandbox that works there, as root and as an ordinary user. *Held*: the attack gained
nothing. *Residual*: the sandbox is known to leave this gain open, and says so. *GAINED*: the attack
gained something unexpected. *Not run*: nothing would have contained the attack, or the sandbox has no
jobs. A test shows that the attacks work by running them without a sandbox.

{counts}

## What is left open

{residuals}

## Attack by attack

{rows}
"""


def measure(path: Path, kinds: Sequence[str]) -> None:
    """Run all attacks under each kind that works here, and write the verdicts as JSON."""
    user = "root" if os.geteuid() == 0 else "user"
    report = isolation_report()
    columns: dict[str, list[dict[str, Any]]] = {}
    for kind in kinds or KINDS:
        if report[kind]["works"]:
            verdicts = run_attacks("_template", sandbox=kind)
            columns[f"{kind}, {user}"] = [verdict.to_json() for verdict in verdicts]
    path.write_text(json.dumps(columns, indent=1), "utf-8")


def write(paths: Sequence[Path]) -> None:
    """Write the page from files of verdicts."""
    columns: dict[str, list[dict[str, Any]]] = {}
    for path in paths:
        columns |= json.loads(path.read_text("utf-8"))
    columns = dict(sorted(columns.items(), key=lambda column: KINDS.index(column[0].split(",")[0])))
    page = PAGE.format(
        system=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        version=mlrcbench.__version__,
        counts="\n".join(_counts(columns)),
        residuals="\n".join(_residuals(columns)),
        rows="\n".join(_rows(columns)),
    )
    (Path(__file__).parents[1] / "docs" / "attacks.md").write_text(page, "utf-8")


def _counts(columns: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = ["| sandbox | " + " | ".join(WORDS) + " |", "|---|---|---|---|---|"]
    for name, rows in columns.items():
        numbers = [str(sum(row["verdict"] == word for row in rows)) for word in WORDS]
        lines.append(f"| {name} | {' | '.join(numbers)} |")
    return lines


def _residuals(columns: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What is known of each kind, and what is known of one user alone."""
    lines = [
        f"- {tier}, {attack}: {why}." for tier, table in RESIDUALS.items() for attack, why in table.items()
    ]
    for name, rows in columns.items():
        known = RESIDUALS.get(name.split(",")[0], {})
        lines += [
            f"- {name}, {row['attack']}: {row['residual']}."
            for row in rows
            if row["verdict"] == "residual" and row["attack"].removesuffix("-evaluated") not in known
        ]
    return lines


def _rows(columns: dict[str, list[dict[str, Any]]]) -> list[str]:
    """One line for each attack, below the name of its group."""
    lines = [f"| attack | it | {' | '.join(columns)} |", f"|{'---|' * (2 + len(columns))}"]
    words = {name: {row["attack"]: row["verdict"] for row in rows} for name, rows in columns.items()}
    last = ""
    for row in {row["attack"]: row for rows in columns.values() for row in rows}.values():
        if row["group"] != last:
            last = row["group"]
            lines.append(f"| **{last}** | {'| ' * (1 + len(columns))}")
        cells = " | ".join(words[name].get(row["attack"], "") for name in columns)
        lines.append(f"| {row['attack']} | {row['gain']} | {cells} |")
    return lines


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "measure":
        measure(Path(arguments[0]), arguments[1:])
    else:
        write([Path(argument) for argument in arguments])
