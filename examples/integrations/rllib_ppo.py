"""PPO of RLlib on the menu of actions of examples/policy_gradient.py.

    python examples/integrations/rllib_ppo.py [--iterations 10] [--seed 0]

Needs `pip install 'mlrcbench[rllib]'`. An episode has at most three steps, and one reward, at its end.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.tune.registry import register_env

import mlrcbench
from mlrcbench.integrations.menu import MenuEnv

sys.path.append(str(Path(__file__).parents[1]))
from policy_gradient import MENU, STEPS


def make_env(_: Any) -> MenuEnv:
    """The template competition, with a new instance for each episode."""
    budget = {"steps": STEPS}
    env = mlrcbench.make("_template", instances=1000, secret="public", clip=(-1.0, 1.0), budget=budget)
    return MenuEnv(env, MENU)


def train(iterations: int, seed: int) -> list[float]:
    """Train, and return the mean return of each iteration."""
    register_env("mlrcbench-menu", make_env)
    config = (
        PPOConfig()
        .environment("mlrcbench-menu")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=4)
        .training(train_batch_size=48, minibatch_size=48, num_epochs=20, lr=0.01, gamma=1.0)
        .debugging(seed=seed)
    )
    algorithm = config.build_algo()
    curve = []
    try:
        for iteration in range(1, iterations + 1):
            result = algorithm.train()
            curve.append(float(result["env_runners"]["episode_return_mean"]))
            print(f"iteration {iteration}: mean return {curve[-1]:+.3f}", flush=True)
    finally:
        algorithm.stop()
    return curve


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    train(options.iterations, options.seed)
    ray.shutdown()
