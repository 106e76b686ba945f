"""What a method's own seed changes: other torch seeds on one instance, through the sealed evaluation.

    python docs/competitions/meta_learning/seeds.py

`main.py` seeds torch before it imports `method.py`, so a line at the end of that file replaces the seed of
all that a method draws; the generator of episodes has a seed of its own, which is replaced as well. Appends
to `seeds.jsonl`, from which it goes on, and prints the means.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import mlrcbench
from mlrcbench.calibration import evaluate_files, read_methods
from mlrcbench.competition import PUBLIC_SECRET
from mlrcbench.score import SPLITS

HERE = Path(__file__).parent
LOG = HERE / "seeds.jsonl"
METHODS, SEEDS, INSTANCE = ("proto", "baseline", "reference"), (101, 102), 0
FILE = "method.py"


def main() -> None:
    """Measure what is not in the file yet, then sum it up."""
    competition = mlrcbench.get_competition("meta-learning")
    methods = {method.name: method for method in read_methods(competition, HERE / "methods")}
    starter = competition.overlay("starter")
    known = [json.loads(line) for line in LOG.read_text().splitlines()] if LOG.exists() else []
    for name in METHODS:
        for seed in SEEDS:
            if any((one["method"], one["seed"]) == (name, seed) for one in known):
                continue
            files = {FILE: starter[FILE], **methods[name].files}
            files = {
                path: text.replace(".manual_seed(0)", f".manual_seed({seed})") for path, text in files.items()
            }
            files[FILE] += f"\ntorch.manual_seed({seed})\n"
            scores = dict(evaluate_files(competition, files, instance=INSTANCE, secret=PUBLIC_SECRET))
            row: dict[str, Any] = {
                "method": name,
                "seed": seed,
                **{split: scores[split].value for split in SPLITS},
            }
            with LOG.open("a") as file:
                file.write(json.dumps(row) + "\n")
            known.append(row)
    for name in METHODS:
        for split in SPLITS:
            found = [one[split] for one in known if one["method"] == name]
            print(f"{name}, {split}: {[round(value, 4) for value in found]}, mean {np.mean(found):.4f}")


if __name__ == "__main__":
    main()
