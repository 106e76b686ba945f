"""Measure what a method's own seed changes, on the first instances and through the sealed evaluation.

    python calibration/seeds.py meta-learning

`main.py` seeds torch before it calls the method, so code that is appended to `method.py` sets another seed:
with a call if the entry point imports the module after seeding, otherwise with a function around the method's
own. Generators with a fixed seed get another one too. The script continues from the measurements in the
competition's `seeds.jsonl` and prints them next to those of its `calibration.jsonl`.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import mlrcbench
from mlrcbench.score import SPLITS
from mlrcbench.testing.calibration import Measurement, Method, measure, read_measurements, read_methods

HERE = Path(__file__).parent
FILE, SEEDS = "method.py", (101, 102)
AT_IMPORT = """
import torch

torch.manual_seed({seed})
"""
AT_CALL = """

import numpy
import torch

_inner = {function}


def {function}(*arguments):
    torch.manual_seed({seed})
    numpy.random.seed({seed})
    return _inner(*arguments)
"""
# For each competition: methods, number of instances, and the function that `main.py` calls, or None if it
# imports the module after seeding.
PLANS = {
    "backdoor-trigger": (("baseline", "reference"), 2, "recover"),
    "meta-learning": (("proto", "baseline", "reference"), 1, None),
    "product-recommendation": (("gru4rec", "reference"), 2, "recommend"),
    "rainfall-prediction": (
        ("baseline", "unet2d_mse", "unet2d_classes", "unet2d_dice", "reference"),
        3,
        "fit",
    ),
    "temporal-action-localization": (("baseline", "reference"), 2, "detect"),
}


def reseeded(method: Method, starter: str, function: str | None, seed: int) -> Method:
    """The method, with another seed for everything that it draws."""
    files = {FILE: starter, **method.files}
    files = {path: code.replace(".manual_seed(0)", f".manual_seed({seed})") for path, code in files.items()}
    files[FILE] += (AT_CALL if function else AT_IMPORT).format(function=function, seed=seed)
    name, label = f"{method.name}-{seed}", f"{method.label}, seed {seed}"
    return dataclasses.replace(method, name=name, label=label, files=files)


def table(measurements: Sequence[Measurement], names: Sequence[str], instances: int) -> str:
    """Markdown, for each method and instance: the scores for all seeds, and their sd."""
    value = {(one.method, one.instance, one.split): one.value for one in measurements if one.repeat == 0}
    seeds = f"as calibrated, {', '.join(map(str, SEEDS))}"
    lines = [f"| method | instance | dev: {seeds} | sd | test: the same | sd |", "|---|---|---|---|---|---|"]
    for name in names:
        for number in range(instances):
            cells = []
            for split in SPLITS:
                keys = [(one, number, split) for one in (name, *(f"{name}-{seed}" for seed in SEEDS))]
                scores = [np.nan if value[key] is None else value[key] for key in keys]
                cells += [", ".join(f"{score:.4g}" for score in scores), f"{np.std(scores, ddof=1):.2g}"]
            lines.append(f"| {name} | {number} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is not in the file yet, and print all scores."""
    parser = argparse.ArgumentParser(description="Measure what a method's own seed changes.")
    parser.add_argument("id", choices=PLANS)
    competition = mlrcbench.get_competition(parser.parse_args().id)
    names, instances, function = PLANS[competition.id]
    folder = HERE / competition.id.replace("-", "_")
    methods = {method.name: method for method in read_methods(competition, folder / "methods")}
    starter = competition.overlay("starter")[FILE]
    seeded = [reseeded(methods[name], starter, function, seed) for name in names for seed in SEEDS]
    log = folder / "seeds.jsonl"
    measurements = measure(competition, seeded, instances=instances, repeats=1, log=log, on_work=print)
    print(table([*measurements, *read_measurements(folder / "calibration.jsonl")], names, instances))


if __name__ == "__main__":
    main()
