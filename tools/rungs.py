"""Write each competition's ladder, `rungs.toml`, from its calibration.

    python -m tools.rungs [--check]

A rung is a method that was published, or an end of the scale. Its height is the mean improvement over the
instances on which all methods of the ladder were measured, between baseline and reference on the same ones.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

from mlrcbench.catalog.ladder import FILE, Rung
from mlrcbench.score import SPLITS, Split
from mlrcbench.testing.calibration import Measurement, Method, read_measurements, read_methods
from mlrcbench.testing.calibration.comparison import on_shared_instances, values
from tools.draw_ladders import ROOT, competition_of, logs
from tools.stale import refresh

_HEAD = """\
# Written by `python -m tools.rungs` from calibration/{name}/calibration.jsonl, mean improvements over
# instances {instances} of the public secret.
"""


def fresh() -> dict[Path, str]:
    """File -> text of every ladder, as the calibrations have it now."""
    return dict(_ladder(log) for log in logs())


def _ladder(log: Path) -> tuple[Path, str]:
    competition = competition_of(log)
    methods = read_methods(competition, log.parent / "methods")
    steps = [method for method in methods if method.kind in ("baseline", "ladder", "reference")]
    measured = read_measurements(log)
    shared = on_shared_instances(measured, steps)
    steps = [step for step in steps if all(values(shared, step.name, split) for split in SPLITS)]
    rungs = sorted((_rung(step, shared) for step in steps), key=lambda rung: rung.test)
    instances = ", ".join(str(number) for number in sorted({one.instance for one in shared}))
    text = _HEAD.format(name=log.parent.name, instances=instances)
    for rung in rungs:
        text += f"\n[[rungs]]\nlabel = {json.dumps(rung.label, ensure_ascii=False)}\n"
        text += f"dev = {rung.dev:.2f}\ntest = {rung.test:.2f}\n"
    return competition.folder / FILE, text


def _rung(method: Method, shared: list[Measurement]) -> Rung:
    return Rung(method.label, _height(method, shared, "dev"), _height(method, shared, "test"))


def _height(method: Method, shared: list[Measurement], split: Split) -> float:
    low, high, own = (
        statistics.mean(values(shared, name, split)) for name in ("baseline", "reference", method.name)
    )
    return (own - low) / (high - low)


def main(arguments: list[str]) -> int:
    """Write what is out of date, or with `--check` only name it; status 1 if there is any to name."""
    return refresh(fresh(), arguments, "tools.rungs", ROOT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
