"""Write `between` into each competition's card: what lies between instances and seeds, from its calibration.

    python -m tools.between [--check]

The spread of the baseline's scores over instances has two parts: the items of an instance are a draw, and
instances and seeds differ beyond that. The scorer tells the first part for every score, so that an
improvement's error needs the second one only: `between^2 = spread^2 - mean of error^2`, or 0 if the items
explain all of it. The spread is that of `calibration.jsonl`, the errors are those of `errors.jsonl`.
"""

from __future__ import annotations

import re
import statistics
import sys
from pathlib import Path

from mlrcbench.score import SPLITS, Split
from mlrcbench.testing.calibration import Measurement, read_measurements
from mlrcbench.testing.calibration.comparison import values
from tools.draw_ladders import ROOT, competition_of
from tools.stale import refresh

ERRORS = "errors.jsonl"


def fresh() -> dict[Path, str]:
    """Card -> its text as the measurements have it now."""
    return dict(_card(log) for log in sorted((ROOT / "calibration").glob(f"*/{ERRORS}")))


def between(measurements: list[Measurement], errors: list[Measurement], split: Split) -> float:
    """The baseline's standard deviation between instances and seeds, in the metric's unit.

    Args:
        measurements: Those of a calibration, for the spread over instances.
        errors: Measurements of the baseline with their standard errors.
        split: "dev" or "test".
    """
    spread = statistics.stdev(values(measurements, "baseline", split))
    known = [one.error for one in errors if one.split == split and one.error is not None]
    return max(0.0, spread**2 - statistics.mean(error**2 for error in known)) ** 0.5


def _card(log: Path) -> tuple[Path, str]:
    path = competition_of(log).folder / "card.toml"
    measurements, errors = read_measurements(log.parent / "calibration.jsonl"), read_measurements(log)
    text = path.read_text("utf-8")
    for split in SPLITS:
        entry = f"between = {between(measurements, errors, split):.2g}, "
        place = re.compile(
            rf"(\[tiers\.mini\.anchors\.{split}\]\nbaseline = {{[^\n]*?)(?:between = [^,]*, )?(source = )"
        )
        text, count = place.subn(rf"\g<1>{entry}\g<2>", text)
        if count != 1:
            raise ValueError(f"{path} has {count} baselines on {split} in the tier mini, and one is expected")
    return path, text


def main(arguments: list[str]) -> int:
    """Write what is out of date, or with `--check` only name it; status 1 if there is any to name."""
    return refresh(fresh(), arguments, "tools.between", ROOT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
