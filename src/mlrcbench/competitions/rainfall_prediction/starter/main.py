"""Entry point. Protected: this file is restored before every evaluation.

python main.py            learn from most of the training year, predict the rest
python main.py predict    what an evaluation runs: data/, inputs/ -> artefacts/rates.npy
"""

import sys

import numpy as np
import torch

from dataset import AHEAD, SEEN, csi, load
from method import fit, predict

SEED = 20
HELD_OUT = 300  # sequences at the end of the training year


def experiment():
    """Learn without the last sequences, predict them, and compare."""
    reflbt, rates = load()
    model = fit(reflbt[:-HELD_OUT], rates[:-HELD_OUT])
    truth = rates[-HELD_OUT:, SEEN:]
    predicted = predict(model, reflbt[-HELD_OUT:].astype(np.float32))
    print(f"{HELD_OUT} sequences held out")
    for name, rain in (("this method", predicted), ("20 mm/h everywhere", np.full_like(truth, 20))):
        scores = csi(truth, rain)
        parts = ", ".join(f"{value:.4f} at {threshold:g} mm/h" for threshold, value in scores.items())
        print(f"{name}: mean CSI {np.mean(list(scores.values())):.4f} ({parts})", flush=True)


def answer():
    """Learn from the whole training year and predict the split that is evaluated."""
    model = fit(*load())
    inputs = np.load("inputs/reflbt.npy").astype(np.float32)
    rates = np.asarray(predict(model, inputs), dtype=np.float32)
    np.save("artefacts/rates.npy", np.ascontiguousarray(rates))
    print(f"wrote artefacts/rates.npy: {len(rates)} sequences, {AHEAD} frames after {SEEN}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    if sys.argv[1:] == ["predict"]:
        answer()
    elif not sys.argv[1:]:
        experiment()
    else:
        sys.exit("usage: python main.py [predict]")
