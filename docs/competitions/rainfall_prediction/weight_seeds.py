"""How much another draw of the weights changes a score: rungs of the ladder again, with other torch seeds.

    python docs/competitions/rainfall_prediction/weight_seeds.py

Each method's `fit` seeds torch itself, instead of the starter's main.py, whose seed gave the run in
`calibration.jsonl`. Measurements go to `weight_seeds.jsonl` beside this file, and are not taken again.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

import mlrcbench
from mlrcbench.calibration import Measurement, Method, measure, read_measurements, read_methods
from mlrcbench.score import SPLITS

HERE = Path(__file__).parent
NAMES = ("baseline", "unet2d_mse", "unet2d_classes", "unet2d_dice")
SEEDS, INSTANCES = (1,), 3
SEEDED = """

_fit = fit


def fit(reflbt, rates):
    torch.manual_seed({seed})
    return _fit(reflbt, rates)
"""


def seeded(method: Method, starter: str, seed: int) -> Method:
    """The same method, with another seed."""
    text = method.files.get("method.py", starter) + SEEDED.format(seed=seed)
    name = f"{method.name}, seed {seed}"
    return dataclasses.replace(method, name=name, kind="ladder", files={**method.files, "method.py": text})


def table(found: list[Measurement]) -> str:
    """For each method and split: mean of all runs, spread over an instance's seeds, spread over instances."""
    lines = ["| method | split | mean | sd over seeds | sd over instances |", "|---|---|---|---|---|"]
    for name in NAMES:
        for split in SPLITS:
            runs = [
                [one.value for one in found if one.value is not None and _key(one) == (name, number, split)]
                for number in range(INSTANCES)
            ]
            within = np.sqrt(np.mean([np.var(values, ddof=1) for values in runs]))
            means = [np.mean(values) for values in runs]
            spread = np.std(means, ddof=1)
            lines.append(f"| {name} | {split} | {np.mean(means):.4f} | {within:.4f} | {spread:.4f} |")
    return "\n".join(lines)


def _key(one: Measurement) -> tuple[str, int, str]:
    return one.method.partition(",")[0], one.instance, one.split


def main() -> None:
    """Measure what is missing, and print the table."""
    competition = mlrcbench.get_competition("rainfall-prediction")
    methods = [one for one in read_methods(competition, HERE / "methods") if one.name in NAMES]
    starter = competition.overlay("starter")["method.py"]
    variants = [seeded(method, starter, seed) for seed in SEEDS for method in methods]
    log = HERE / "weight_seeds.jsonl"
    found = measure(competition, variants, instances=INSTANCES, repeats=1, log=log, on_work=print)
    first = [one for one in read_measurements(HERE / "calibration.jsonl") if one.instance < INSTANCES]
    print(table([*first, *found]))


if __name__ == "__main__":
    main()
