"""Entry point. Protected: this file is restored before every evaluation.

python main.py            merge the models in data/ and ask the published questions
python main.py predict    what an evaluation runs: inputs/ -> artefacts/merged-*.safetensors
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from method import merge
from model import Judge, load, read_json, read_models

SEED = 20
SHARD_BYTES = 1_060_000_000  # an evaluation lets no file grow beyond 1 GiB


def run(folder):
    """Call the method with a fixed seed; the merged model is a mapping {name: tensor}."""
    base, experts = read_models(folder)
    torch.manual_seed(SEED)
    merged = merge(base, experts)
    if set(merged) != set(base):
        differences = sorted(set(merged) ^ set(base))
        sys.exit(f"merge must return exactly the names of base; these differ: {', '.join(differences[:3])}")
    return base, experts, merged


def write(merged, base, folder):
    """Write tensors in base's dtype, file by file; only one file's tensors are in memory at a time."""
    shard, size, count = {}, 0, 0
    for name in base:
        tensor = merged[name].detach().to("cpu", base[name].dtype).contiguous()
        if shard and size + tensor.nbytes > SHARD_BYTES:
            save_file(shard, Path(folder) / f"merged-{count:05d}.safetensors")
            shard, size, count = {}, 0, count + 1
        shard[name] = tensor
        size += tensor.nbytes
    save_file(shard, Path(folder) / f"merged-{count:05d}.safetensors")
    print(f"wrote {count + 1} files into {folder}", flush=True)


def report(label, weights):
    """Print one line with the score of a model and its parts; the model is freed afterwards."""
    parts = Judge(load("data", weights), "data").parts(read_json("data/known_questions.json"))
    details = ", ".join(f"{name} {value:.3f}" for name, value in parts.items())
    print(f"{label}: score {sum(parts.values()) / len(parts):.3f} ({details})", flush=True)


def experiment():
    """Compare the merged model with each expert, the first of which is the base model."""
    _, experts, merged = run("data")
    for index, expert in enumerate(experts):
        report(f"expert {index}", expert)
    report("merged", merged)


def predict():
    """Merge the experts of the split that is being evaluated."""
    base, _, merged = run("inputs")
    write(merged, base, "artefacts")


if __name__ == "__main__":
    if sys.argv[1:] == ["predict"]:
        predict()
    elif not sys.argv[1:]:
        experiment()
    else:
        sys.exit("usage: python main.py [predict]")
