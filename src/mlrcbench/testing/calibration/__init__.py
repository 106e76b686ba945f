"""Calibration: what a competition's scale means, measured.

Every method, from trivial constants to an oracle, goes through the real sealed evaluation on
several instances. The results fix the card's anchors, and show whether the methods' order is that of
the literature.

- `methods.py`: what is measured: the baseline, the reference, and a folder of further methods.
- `measure.py`: evaluates them and writes one JSON line each; it can be interrupted.
- `comparison.py`: means, spreads, paired differences, rank correlation; Markdown tables.
- `plot.py`: the ladder as a picture.
"""

from mlrcbench.testing.calibration.comparison import paired_difference, tables
from mlrcbench.testing.calibration.measure import Measurement, evaluate_files, measure, read_measurements
from mlrcbench.testing.calibration.methods import Method, read_methods
from mlrcbench.testing.calibration.plot import draw_ladder

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
