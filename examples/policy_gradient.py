"""REINFORCE on many environments at once: a policy over a small menu learns what to write.

    python examples/policy_gradient.py [--updates 30] [--envs 16] [--seed 0] [--plot curve.png]

The menu has six actions: five write a version of `method.py`, some worse and some better than
the starter's, one submits. An episode has three steps at most, and is paid once, at its end: the
improvement on test, 0 for the baseline, about 1 for the best line, and not below -1. The policy
is a table of logits: one row for each step and for what stands in `method.py`. Nothing is
simulated: every action is carried out in a sandbox, every submission evaluated by the library.

Each episode has an instance of its own. `secret="public"` makes instances, and so the curve, the
same everywhere; train with a secret of your own (leave it out).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

import numpy as np

import mlrcbench

METHOD = """import numpy as np


def predict(train, x):
    known, heights = train.T
    return {heights}
"""
HEIGHTS = {
    "ones": "np.ones(len(x))",
    "mirrored": "np.polyval(-np.polyfit(known, heights, 1), x)",
    "half": "0.5 * (np.polyval(np.polyfit(known, heights, 1), x) + heights.mean())",
    "neighbour": "heights[np.abs(x[:, None] - known).argmin(axis=1)]",
    "line": "np.polyval(np.polyfit(known, heights, 1), x)",
}
MENU: tuple[mlrcbench.Action, ...] = (
    *(mlrcbench.WriteFile("method.py", METHOD.format(heights=text)) for text in HEIGHTS.values()),
    mlrcbench.Submit(),
)
STEPS = 3
IGNORED = json.dumps({"action": "read_file", "path": "method.py"})
# Of an episode: which step it is, what stands in method.py (0: the starter's), which action is chosen.
Choices = list[tuple[int, int, int]]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, (n,)."""
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def play_batch(
    vector: mlrcbench.VectorEnv, logits: np.ndarray, random: np.random.Generator
) -> tuple[list[Choices], np.ndarray]:
    """One episode in each environment: what was chosen, and the returns, (envs,)."""
    vector.reset()
    choices: list[Choices] = [[] for _ in range(vector.num_envs)]
    written = np.zeros(vector.num_envs, int)
    returns = np.zeros(vector.num_envs)
    playing = np.ones(vector.num_envs, bool)
    for step in range(STEPS):
        actions: list[mlrcbench.Action | str] = [IGNORED] * vector.num_envs
        for i in np.flatnonzero(playing):
            choice = int(random.choice(len(MENU), p=softmax(logits[step, written[i]])))
            choices[i].append((step, int(written[i]), choice))
            actions[i], written[i] = MENU[choice], choice + 1
        _, rewards, terminated, truncated, _ = vector.step(actions)
        returns += np.where(playing, rewards, 0.0)  # after an end, the next episode waits to be played
        playing &= ~(terminated | truncated)
    return choices, returns


def train(updates: int, envs: int, seed: int, rate: float = 4.0) -> list[float]:
    """REINFORCE with the batch's mean as the baseline; returns the mean return of each update."""
    random = np.random.default_rng(seed)
    logits = np.zeros((STEPS, len(MENU), len(MENU)))
    curve = []
    vector = mlrcbench.VectorEnv(
        "_template", envs, instances=1000, secret="public", clip=(-1.0, 1.0), budget={"steps": STEPS}
    )
    try:
        vector.reset(seed=seed)
        for update in range(1, updates + 1):
            choices, returns = play_batch(vector, logits, random)
            advantages = (returns - returns.mean()) / (returns.std() + 0.1)
            gradient = np.zeros_like(logits)
            for episode, advantage in zip(choices, advantages, strict=True):
                for step, written, choice in episode:
                    score = np.eye(len(MENU))[choice] - softmax(logits[step, written])
                    gradient[step, written] += advantage * score
            logits += rate * gradient / envs
            curve.append(float(returns.mean()))
            bar = "#" * round(20 * (1 + curve[-1]))
            print(f"update {update:3d}: mean return {curve[-1]:+.3f} |{bar:40s}|", flush=True)
    finally:
        vector.close()
    return curve


def plot(curve: list[float], path: Path) -> None:
    """The curve as a picture, if matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        print("no picture: matplotlib is not installed")
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, len(curve) + 1), curve)
    axes.set(xlabel="update", ylabel="mean return", title="REINFORCE on the template competition")
    axes.axhline(0.0, color="grey", linewidth=0.5)
    figure.savefig(path)
    print(f"the curve is in {path}")


def main() -> None:
    """Train and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--envs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="write the curve to this file")
    options = parser.parse_args()
    curve = train(options.updates, options.envs, options.seed)
    if options.plot is not None:
        plot(curve, options.plot)


if __name__ == "__main__":
    main()
