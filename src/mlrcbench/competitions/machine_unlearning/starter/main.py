"""Entry point. Protected: it is put back before every evaluation.

python main.py            unlearn the practice model in data/ and compare with its retrained models
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

SEED, MODELS = 20, 96


def read(folder):
    """The trained model, and the sets by name."""
    tensors = load_file(f"{folder}/sets.safetensors")
    sets = {name: (tensors[f"{name}_x"], tensors[f"{name}_y"]) for name in ("retain", "forget", "validation")}
    return load_file(f"{folder}/model.safetensors"), sets


def run(folder):
    """Call the method with a fixed seed; the sets and the unlearned models."""
    torch.manual_seed(SEED)
    model, sets = read(folder)
    stack = unlearn(model, sets, MODELS, np.random.default_rng(SEED))
    return model, sets, {name: stack[name].detach().contiguous() for name in model}


def experiment():
    """Score the method on the practice model."""
    model, sets, stack = run("data")
    retrained = load_file("data/retrained.safetensors")
    for name, images in sets.items():
        print(
            f"{name} accuracy: {accuracy(model, images):.3f} before, {accuracy(stack, images):.3f} after",
            end="",
        )
        print(f", retrained {retrained[f'{name}_accuracy'].mean().item():.3f}")
    with torch.no_grad():
        ours = confidence(forward(stack, sets["forget"][0]), sets["forget"][1])
    theirs = retrained["forget_confidence"].numpy()
    print(f"mean confidence on the forget set: {ours.mean():.2f}, retrained {theirs.mean():.2f}")
    print(
        f"its standard deviation over models: {ours.std(0).mean():.2f}, retrained {theirs.std(0).mean():.2f}"
    )
    quality = forgetting_quality(ours, theirs)
    ratios = [
        accuracy(stack, sets[name]) / retrained[f"{name}_accuracy"].mean().item()
        for name in ("retain", "validation")
    ]
    print(f"practice score {quality * ratios[0] * ratios[1]:.4f}", end=" ")
    print(
        f"(forgetting quality {quality:.4f}, retain ratio {ratios[0]:.3f}, validation ratio {ratios[1]:.3f})"
    )


def predict():
    """Unlearn the model of the split that is evaluated."""
    _, _, stack = run("inputs")
    save_file(stack, "artefacts/models.safetensors")
    print(f"wrote artefacts/models.safetensors with {MODELS} models", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    Path("artefacts").mkdir(exist_ok=True)
    if sys.argv[1:] == ["predict"]:
        predict()
    elif not sys.argv[1:]:
        experiment()
    else:
        sys.exit("usage: python main.py [predict]")
