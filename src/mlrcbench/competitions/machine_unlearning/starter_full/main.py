"""Entry point. Protected: this file is restored before every evaluation.

python main.py            unlearn the practice model in data/ several times and compare with retrained models
python main.py predict    what an evaluation runs: inputs/ -> artefacts/model-000.safetensors and so on

The method is called once for each model, each time with a different seed.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from method import unlearn
from metric import confidence, forgetting_quality
from model import accuracy, forward
from network import DEVICE

SEED, PRACTICE = 20, 16  # models in the quick experiment


def read(folder):
    """Read the trained model, and the sets by name, on the GPU if there is one."""
    tensors = {name: value.to(DEVICE) for name, value in load_file(f"{folder}/sets.safetensors").items()}
    sets = {name: (tensors[f"{name}_x"], tensors[f"{name}_y"]) for name in ("retain", "forget", "validation")}
    model = load_file(f"{folder}/model.safetensors")
    return {name: value.to(DEVICE) for name, value in model.items()}, sets


def run(model, sets, number):
    """Call the method for one model."""
    torch.manual_seed(SEED + number)
    stack = unlearn(model, sets, 1, np.random.default_rng([SEED, number]))
    return {name: stack[name].detach() for name in model}


def experiment():
    """Score the method on the practice model, with fewer models."""
    model, sets = read("data")
    retrained = load_file("data/retrained.safetensors")
    theirs = retrained["forget_confidence"][:PRACTICE].numpy()
    ours, rates = [], {name: [] for name in sets}
    for number in range(len(theirs)):
        stack = run(model, sets, number)
        for name, images in sets.items():
            rates[name].append(accuracy(stack, images))
        with torch.no_grad():
            x, y = sets["forget"]
            logits = torch.cat([forward(stack, part) for part in x.split(500)], 1).cpu()
        ours.append(confidence(logits, y.cpu()))
        print(
            f"model {number}: {', '.join(f'{name} {rate[-1]:.3f}' for name, rate in rates.items())}",
            flush=True,
        )
    ours = np.concatenate(ours)
    print(f"mean confidence on the forget set: {ours.mean():.2f}, retrained {theirs.mean():.2f}")
    print(
        f"its standard deviation over models: {ours.std(0).mean():.2f}, retrained {theirs.std(0).mean():.2f}"
    )
    quality = forgetting_quality(ours, theirs)
    ratios = {
        name: np.mean(rate) / retrained[f"{name}_accuracy"].mean().item() for name, rate in rates.items()
    }
    score = quality * ratios["retain"] * ratios["validation"]
    print(f"practice score {score:.4f} of {len(theirs)} models (forgetting quality {quality:.4f}", end="")
    print(f", retain ratio {ratios['retain']:.3f}, validation ratio {ratios['validation']:.3f})")


def predict():
    """Unlearn the model of the split that is being evaluated, once for each retrained practice model."""
    count = len(load_file("data/retrained.safetensors")["forget_confidence"])
    model, sets = read("inputs")
    for number in range(count):
        stack = {name: value.half().cpu().contiguous() for name, value in run(model, sets, number).items()}
        save_file(stack, f"artefacts/model-{number:03d}.safetensors")
        print(f"model {number + 1} of {count}", flush=True)


if __name__ == "__main__":
    Path("artefacts").mkdir(exist_ok=True)
    if sys.argv[1:] == ["predict"]:
        predict()
    elif not sys.argv[1:]:
        experiment()
    else:
        sys.exit("usage: python main.py [predict]")
