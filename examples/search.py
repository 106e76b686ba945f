"""Search with forks: try every small change to the best state, keep what helped, and continue from there.

The agent has a library of small changes to the method. `search` tries each of them from the best
state so far, each in its own fork, and continues from the best fork. `straight` makes the same
number of changes and evaluations in one episode, in random order, and cannot take a bad change
back. Both are scored on test like every episode: by the best state on dev.

    python examples/search.py                         two rounds, half a minute
    python examples/search.py --rounds 4 --trials 10  until nothing helps, on ten instances
"""

import argparse
import random
import statistics

import mlrcbench

# The method to start from: a line through the points, with three parameters to change.
START = """import numpy as np

DEGREE = 0
SHRINK = 0.5
USED = 20


def predict(train, x):
    train = train[:USED]
    curve = np.polyfit(train[:, 0], train[:, 1], DEGREE)
    middle = train[:, 1].mean()
    return middle + SHRINK * (np.polyval(curve, x) - middle)
"""

# A shell command that changes one line; if it fails, nothing has changed.
CHANGE = "python -c \"import re; t = open('method.py').read(); open('method.py', 'w').write(re.sub({0}))\""


def turn(name: str, formula: str) -> mlrcbench.Run:
    """An action that replaces the value v of a parameter by a formula of v."""
    pattern = f"r'(?m)^{name} = (.*)', lambda m: '{name} = ' + str((lambda v: {formula})(float(m[1]))), t"
    return mlrcbench.Run(CHANGE.format(pattern))


LIBRARY = {
    "degree + 1": turn("DEGREE", "int(v) + 1"),
    "degree - 1": turn("DEGREE", "max(0, int(v) - 1)"),
    "shrink less": turn("SHRINK", "round(v + 0.25, 2)"),
    "shrink more": turn("SHRINK", "round(v - 0.25, 2)"),
    "more points": turn("USED", "int(2 * v)"),
    "fewer points": turn("USED", "max(3, int(v) // 2)"),
}
BUDGET = {"steps": 1000, "evaluations": 1000}


def start(env: mlrcbench.ResearchEnv, seed: int) -> float:
    """Begin an episode with the first method, and return its improvement on dev."""
    env.reset(seed=seed)
    env.step(mlrcbench.WriteFile("method.py", START))
    return score(env)


def score(env: mlrcbench.ResearchEnv) -> float:
    """Evaluate on dev: the improvement, or minus infinity if the method could not be scored."""
    _, _, _, _, info = env.step(mlrcbench.Evaluate())
    improvement = info["score"]["improvement"]
    return float("-inf") if improvement is None else float(improvement)


def submit(env: mlrcbench.ResearchEnv) -> float:
    """End the episode, and return the improvement on test."""
    _, _, _, _, info = env.step(mlrcbench.Submit())
    return float(info["test_score"]["improvement"] or 0.0)


def search(env: mlrcbench.ResearchEnv, rounds: int, seed: int) -> tuple[float, float, int]:
    """Greedy search: the best improvement on dev, that on test, and the number of evaluations."""
    best, evaluations = start(env, seed), 1
    for _ in range(rounds):
        children = env.fork(len(LIBRARY))
        results = []
        for child, action in zip(children, LIBRARY.values(), strict=True):
            with child:
                child.step(action)
                results.append((score(child), child.snapshot()))
                evaluations += 1
        gain, state = max(results, key=lambda result: result[0])
        if gain <= best:
            break
        best = gain
        env.restore(state)
    return best, submit(env), evaluations


def straight(env: mlrcbench.ResearchEnv, evaluations: int, seed: int) -> tuple[float, float]:
    """Random changes without branching: the best improvement on dev, and that on test."""
    choices = random.Random(seed)
    best = start(env, seed)
    for _ in range(evaluations - 1):
        env.step(choices.choice(list(LIBRARY.values())))
        best = max(best, score(env))
    return best, submit(env)


def main() -> None:
    """Compare both on fresh instances."""
    parser = argparse.ArgumentParser(description="search with forks against one straight episode")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--trials", type=int, default=1)
    options = parser.parse_args()
    line = "search dev {:+.3f}, test {:+.3f}; straight dev {:+.3f}, test {:+.3f}"
    table = []
    with mlrcbench.make("_template", budget=BUDGET, instances=1000) as env:
        for seed in range(options.trials):
            *searched, evaluations = search(env, options.rounds, seed)
            table.append((*searched, *straight(env, evaluations, seed)))
            print(f"seed {seed}, {evaluations} evaluations each: {line.format(*table[-1])}")
    print("means:", line.format(*(statistics.mean(column) for column in zip(*table, strict=True))))


if __name__ == "__main__":
    main()
