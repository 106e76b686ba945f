"""Write `docs/attacks.md`: every attack of the kit, under every sandbox that works here.

    python docs/attacks_table.py

It takes a few minutes for each sandbox.
"""

import platform
from pathlib import Path

import mlrcbench
from mlrcbench.sandbox import isolation_report
from mlrcbench.testing import RESIDUALS, markdown_table, run_attacks

PAGE = """# The attacks

What `mlrcbench.testing.run_attacks` found on the template competition, written by
[a script](attacks_table.py) ({system}, mlrcbench {version}). *Held*: it gained nothing.
*Residual*: a gain that this sandbox is known, and says, to leave open. *Not run*: nothing would have
contained it. That the attacks work is shown by a test that runs them without any sandbox.

{counts}

## What is left open

{residuals}

## Attack by attack

{rows}
"""


def main() -> None:
    """Run and write."""
    kinds = [kind for kind in ("strong", "uid", "landlock") if isolation_report()[kind]["works"]]
    verdicts = {kind: run_attacks("_template", sandbox=kind) for kind in kinds}
    words = ("held", "residual", "GAINED", "not run")
    counts = ["| sandbox | " + " | ".join(words) + " |", "|---|---|---|---|---|"]
    for kind, found in verdicts.items():
        numbers = [str(sum(verdict.word == word for verdict in found)) for word in words]
        counts.append(f"| `{kind}` | {' | '.join(numbers)} |")
    known = [
        f"- `{tier}`, {attack}: {reason}."
        for tier, table in RESIDUALS.items()
        for attack, reason in table.items()
    ]
    page = PAGE.format(
        system=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        version=mlrcbench.__version__,
        counts="\n".join(counts),
        residuals="\n".join(["- `strong`: nothing.", *known]),
        rows=markdown_table(verdict for found in verdicts.values() for verdict in found),
    )
    (Path(__file__).parent / "attacks.md").write_text(page, "utf-8")


if __name__ == "__main__":
    main()
