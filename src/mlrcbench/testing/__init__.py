"""What ships for testing: attackers against a sandbox, and checks of a competition.

from mlrcbench.testing import check_competition, format_verdicts, run_attacks
"""

from mlrcbench.testing.attack import Attack, Verdict
from mlrcbench.testing.attackers import REDUCED, attacks, run_attacks
from mlrcbench.testing.check import Finding, check_competition, format_findings
from mlrcbench.testing.report import format_verdicts, markdown_table
from mlrcbench.testing.residuals import RESIDUALS

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
