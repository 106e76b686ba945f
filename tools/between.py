"""Write `between` into each competition's card: what lies between instances and seeds, from its calibration.

    python -m tools.between [--check]

The spread of the baseline's scores over instances has two parts: the items of an instance are a draw, and
instances and seeds differ beyond that. The scorer tells the first part for every score, so that an
improvement's error needs the second one only: `between^2 = spread^2 - mean of error^2`, or 0 if the items
explain all of it. The spread is that of `calibration.jsonl`, the errors are those of `errors.jsonl`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mlrcbench.score import SPLITS
from mlrcbench.testing.calibration import read_measurements
from mlrcbench.testing.calibration.comparison import between
from tools.draw_ladders import ROOT, competition_of
from tools.stale import refresh

ERRORS = "errors.jsonl"


def fresh() -> dict[Path, str]:
    """Card -> its text as the measurements have it now."""
    return dict(_card(log) for log in sorted((ROOT / "calibration").glob(f"*/{ERRORS}")))


def _card(log: Path) -> tuple[Path, str]:
    path = competition_of(log).folder / "card.toml"
    measurements, errors = read_measurements(log.parent / "calibration.jsonl"), read_measurements(log)
    text = path.read_text("utf-8")
    for split in SPLITS:
        part = between(measurements, split, errors)
        if part is None:
            raise ValueError(f"{log} has no standard error on {split}")
        entry = f"between = {float(f'{part:.2g}')}, "
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
