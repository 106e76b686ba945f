"""Tests that authors run on their competitions, and users on their sandboxes.

- Holds: checks of a competition, attackers (`attacks/`), calibration of a scale (`calibration/`), and an
  endpoint with scripted replies, for tests of agents.
- May import: every chapter but `integrations` and `cli`.
- Start reading at `check.py`.
"""

from mlrcbench.testing.attacks.attack import Attack, Verdict
from mlrcbench.testing.attacks.campaign import REDUCED, attacks, run_attacks
from mlrcbench.testing.attacks.known_gaps import RESIDUALS
from mlrcbench.testing.attacks.verdict_tables import format_verdicts, markdown_table
from mlrcbench.testing.check import Finding, check_competition, format_findings

__all__ = [
    "REDUCED",
    "RESIDUALS",
    "Attack",
    "Finding",
    "Verdict",
    "attacks",
    "check_competition",
    "format_findings",
    "format_verdicts",
    "markdown_table",
    "run_attacks",
]
