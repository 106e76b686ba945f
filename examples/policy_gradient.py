"""REINFORCE on many environments at once: a policy over a small menu learns what to write.

    python examples/policy_gradient.py [--updates 30] [--envs 16] [--seed 0] [--plot curve.png]

The menu has six actions: five write a version of `method.py`, some worse and some better than
the starter's, and one submits. An episode has at most three steps, and one reward, at its end: the
improvement on test, 0 for the baseline, about 1 for the best line, and not below -1. The policy
is a table of logits: one row for each step and each version of `method.py`. Nothing is simulated:
every action is carried out in a sandbox, and the library evaluates every submission.

Each episode has its own instance. `secret="public"` makes the instances, and so the curve, the
same everywhere; to train, leave it out, so that the installation's own secret is used.
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
# For each step of an episode: its number, the version of method.py (0: the starter's), and the action.
Choices = list[tuple[int, int, int]]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of n actions, shape (n,)."""
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def play_batch(
    vector: mlrcbench.VectorEnv, logits: np.ndarray, random: np.random.Generator
) -> tuple[list[Choices], np.ndarray]:
    """Play one episode in each environment: the choices, and the returns, shape (envs,)."""
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
        returns += np.where(playing, rewards, 0.0)  # after its end, an episode earns nothing
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
    """Draw the curve, if matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        print("the curve is not drawn: matplotlib is not installed")
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
    """Train, and draw the curve."""
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
