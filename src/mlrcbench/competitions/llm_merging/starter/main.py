"""Entry point. Protected: this file is restored before every evaluation.

python main.py            merge the experts in data/ and test the result on the published facts
python main.py predict    what an evaluation runs: inputs/ -> artefacts/merged.safetensors
"""

import sys

import torch
from safetensors.torch import save_file

from method import merge
from model import judge, read_json, read_models

SEED = 20


def run(folder):
    """Call the method with a fixed seed; the merged model is {name: tensor}."""
    config, base, experts = read_models(folder)
    torch.manual_seed(SEED)
    merged = merge(base, experts)
    return config, base, experts, {name: tensor.detach().contiguous() for name, tensor in merged.items()}


def report(label, parts):
    """Print one line with the score and its parts."""
    details = ", ".join(f"{name} {value:.3f}" for name, value in parts.items())
    print(f"{label}: score {sum(parts.values()) / len(parts):.3f} ({details})", flush=True)


def experiment():
    """Compare the merged model with the base model and with each expert."""
    config, base, experts, merged = run("data")
    facts = read_json("data/known_facts.json")
    report("base", judge(config, base, facts))
    for index, expert in enumerate(experts):
        own = {"experts": facts["experts"][index : index + 1], "base": facts["base"]}
        report(f"expert {index}", judge(config, expert, facts))
        report(f"expert {index}, own facts only", judge(config, expert, own))
    report("merged", judge(config, merged, facts))


def predict():
    """Merge the experts of the split that is being evaluated."""
    _, _, experts, merged = run("inputs")
    save_file(merged, "artefacts/merged.safetensors")
    print(
        f"wrote artefacts/merged.safetensors: {len(merged)} tensors from {len(experts)} experts", flush=True
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:] == ["predict"]:
        predict()
    elif not sys.argv[1:]:
        experiment()
    else:
        sys.exit("usage: python main.py [predict]")
