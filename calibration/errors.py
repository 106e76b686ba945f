"""Measure the standard errors of the baseline, on the first instances and through the sealed evaluation.

    python calibration/errors.py meta-learning

Most calibrations are older than the scorers' standard errors. The script continues from the measurements in
the competition's `errors.jsonl`; `python -m tools.between` writes what follows from them into its card.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mlrcbench
from mlrcbench.testing.calibration import measure, read_methods

HERE = Path(__file__).parent
INSTANCES = 3


def main() -> None:
    """Measure what is not in the file yet, and print all values with their errors."""
    parser = argparse.ArgumentParser(description="Measure the standard errors of the baseline.")
    parser.add_argument("id")
    competition = mlrcbench.get_competition(parser.parse_args().id)
    folder = HERE / competition.id.replace("-", "_")
    methods = [one for one in read_methods(competition, folder / "methods") if one.kind == "baseline"]
    log = folder / "errors.jsonl"
    for one in measure(competition, methods, instances=INSTANCES, repeats=1, log=log, on_work=print):
        print(f"instance {one.instance}, {one.split}: {one.value:.4g} ± {one.error:.2g}")


if __name__ == "__main__":
    main()
