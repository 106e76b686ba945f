"""Calibration: what a competition's scale means, measured.

Every method, from trivial constants to an oracle, goes through the real sealed evaluation on
several instances. The results fix the card's anchors, and show whether methods come out in the
order in which the literature has them.

- `methods.py`: what is measured: the baseline, the reference, and a folder of further methods.
- `measure.py`: takes them through evaluations, one JSON line each, and can be interrupted.
- `summary.py`: means, spreads, paired differences, rank correlation; Markdown tables.
- `plot.py`: the ladder as a picture.
"""

from mlrcbench.calibration.measure import Measurement, evaluate_files, measure, read_measurements
from mlrcbench.calibration.methods import Method, read_methods
from mlrcbench.calibration.plot import draw_ladder
from mlrcbench.calibration.summary import paired_difference, tables

__all__ = [
    "Measurement",
    "Method",
    "draw_ladder",
    "evaluate_files",
    "measure",
    "paired_difference",
    "read_measurements",
    "read_methods",
    "tables",
]
