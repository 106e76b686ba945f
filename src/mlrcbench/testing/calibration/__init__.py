"""Calibration: what a competition's scale means, measured.

Every method, from trivial constants to an oracle, goes through the real sealed evaluation on
several instances. The results fix the card's anchors, and show whether the methods' order is that of
the literature.

- `methods.py`: what is measured: the baseline, the reference, and a folder of further methods.
- `measure.py`: evaluates them and writes one JSON line each; it can be interrupted.
- `comparison.py`: means, spreads, paired differences, rank correlation; Markdown tables.
- `claims.py`: what the scale claims, each with its bound and what was measured.
- `plot.py`: the ladder as a picture.
"""

from mlrcbench.testing.calibration.claims import Claim, claims, claims_text, format_claims, read_claims
from mlrcbench.testing.calibration.comparison import paired_difference, tables
from mlrcbench.testing.calibration.measure import Measurement, evaluate_files, measure, read_measurements
from mlrcbench.testing.calibration.methods import Method, read_methods
from mlrcbench.testing.calibration.plot import draw_ladder

__all__ = [
    "Claim",
    "Measurement",
    "Method",
    "claims",
    "claims_text",
    "draw_ladder",
    "evaluate_files",
    "format_claims",
    "measure",
    "paired_difference",
    "read_claims",
    "read_measurements",
    "read_methods",
    "tables",
]
