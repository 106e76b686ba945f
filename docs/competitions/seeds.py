"""What a method's own seed changes: other torch seeds on the first instances, through the sealed evaluation.

    python docs/competitions/seeds.py meta-learning

`main.py` seeds torch, so a text at the end of `method.py` replaces the seed: where the module is imported
after that, by another call; where it is imported before, by an entry point that seeds first. Generators with
a seed of their own get another one too. Goes on from the measurements in the competition's `seeds.jsonl`.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import mlrcbench
from mlrcbench.calibration import Method, measure, read_methods

HERE = Path(__file__).parent
FILE, SEEDS = "method.py", (101, 102)
AT_IMPORT = """
import torch

torch.manual_seed({seed})
"""
AT_CALL = """

_recover = recover


def recover(*arguments):
    torch.manual_seed({seed})
    return _recover(*arguments)
"""
# Of each competition: which methods, on how many instances, and the text.
PLANS = {
    "meta-learning": (("proto", "baseline", "reference"), 1, AT_IMPORT),
    "backdoor-trigger": (("baseline", "reference"), 2, AT_CALL),
}


def reseeded(method: Method, starter: str, text: str, seed: int) -> Method:
    """The method, with another seed for all that it draws."""
    files = {FILE: starter, **method.files}
    files = {path: code.replace(".manual_seed(0)", f".manual_seed({seed})") for path, code in files.items()}
    files[FILE] += text.format(seed=seed)
    label = f"{method.label}, seed {seed}"
    return dataclasses.replace(method, name=f"{method.name}-{seed}", label=label, kind="ladder", files=files)


def main() -> None:
    """Measure what is not in the file yet, and print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("id", choices=PLANS)
    competition = mlrcbench.get_competition(parser.parse_args().id)
    names, instances, text = PLANS[competition.id]
    folder = HERE / competition.id.replace("-", "_")
    methods = {method.name: method for method in read_methods(competition, folder / "methods")}
    starter = competition.overlay("starter")[FILE]
    seeded = [reseeded(methods[name], starter, text, seed) for name in names for seed in SEEDS]
    log = folder / "seeds.jsonl"
    for one in measure(competition, seeded, instances=instances, repeats=1, log=log, on_work=print):
        result = one.reason if one.value is None else f"{one.value:.4f}"
        print(f"{one.method}, instance {one.instance}, {one.split}: {result}")


if __name__ == "__main__":
    main()
