"""Entry point. Protected: this file is restored before every evaluation.

python main.py            unlearn the practice models in data/ and compare with retrained models
python main.py predict    what an evaluation runs: inputs/ -> artefacts/models.safetensors
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from method import unlearn
from metric import confidence, forgetting_quality
from model import accuracy, forward

SEED, MODELS = 20, 48


def read(folder):
    """Read the trained model and the sets by name, for each world."""
    models, tensors = load_file(f"{folder}/model.safetensors"), load_file(f"{folder}/sets.safetensors")
    worlds = []
    for number in range(len(models["w0"])):
        sets = {
            name: (tensors[f"{name}_x"][number], tensors[f"{name}_y"][number])
            for name in ("retain", "forget", "validation")
        }
        worlds.append(({name: value[number] for name, value in models.items()}, sets))
    return worlds


def run(model, sets, number):
    """Call the method for one world, with a fixed seed; return the unlearned models."""
    torch.manual_seed(SEED + number)
    stack = unlearn(model, sets, MODELS, np.random.default_rng([SEED, number]))
    return {name: stack[name].detach().contiguous() for name in model}


def experiment():
    """Score the method on the practice worlds."""
    retrained = load_file("data/retrained.safetensors")
    scores = []
    for number, (model, sets) in enumerate(read("data")):
        stack = run(model, sets, number)
        scores.append(report(model, sets, stack, {name: value[number] for name, value in retrained.items()}))
    print(f"practice score {np.mean(scores):.4f}, the mean over worlds")


def report(model, sets, stack, retrained):
    """Print how the models of one world compare with the retrained models; return the score."""
    ratios = {}
    for name, images in sets.items():
        after, target = accuracy(stack, images), retrained[f"{name}_accuracy"].mean().item()
        ratios[name] = min(after / target, 1.0)
        print(f"{name} accuracy: {accuracy(model, images):.3f} before, {after:.3f} after", end="")
        print(f", retrained {target:.3f}")
    with torch.no_grad():
        ours = confidence(forward(stack, sets["forget"][0]), sets["forget"][1])
    theirs = retrained["forget_confidence"].numpy()
    print(f"mean confidence on the forget set: {ours.mean():.2f}, retrained {theirs.mean():.2f}")
    print(
        f"its standard deviation over models: {ours.std(0).mean():.2f}, retrained {theirs.std(0).mean():.2f}"
    )
    quality = forgetting_quality(ours, theirs)
    score = quality * ratios["retain"] * ratios["validation"]
    print(f"score {score:.4f} (forgetting quality {quality:.4f}, retain ratio {ratios['retain']:.3f}", end="")
    print(f", validation ratio {ratios['validation']:.3f})", flush=True)
    return score


def predict():
    """Unlearn the models of the split that is being evaluated."""
    stacks = [run(model, sets, number) for number, (model, sets) in enumerate(read("inputs"))]
    models = {name: torch.stack([stack[name] for stack in stacks]) for name in stacks[0]}
    save_file(models, "artefacts/models.safetensors")
    print(
        f"wrote artefacts/models.safetensors with {MODELS} models for each of {len(stacks)} worlds",
        flush=True,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    Path("artefacts").mkdir(exist_ok=True)
    if sys.argv[1:] == ["predict"]:
        predict()
    elif not sys.argv[1:]:
        experiment()
    else:
        sys.exit("usage: python main.py [predict]")
