"""What a replay costs, as a ratio to playing the same episode.

    python benchmarks/replay.py [--steps 100 400] [--rounds 3] [--sandbox auto]

Playing and replaying are measured in turn; medians are reported. A replay that compares each step by
itself takes as long as playing does, whatever the number of steps. Run it on a machine that does
nothing else.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import mlrcbench
from mlrcbench.text import table

BODY_LINES = 400  # 20 kB of text in each observation


def play(steps: int, sandbox: str, folder: Path) -> Path:
    """An episode whose every step reads a file; returns its record."""
    budget = {"steps": steps + 1, "seconds": 3600}
    with mlrcbench.make("_template", sandbox=sandbox, budget=budget, records=folder) as env:
        env.reset(seed=0)
        env.step(mlrcbench.WriteFile("notes.md", f"{'x' * 42}\n" * BODY_LINES))
        for _ in range(steps - 1):
            env.step(mlrcbench.ReadFile("notes.md"))
        assert env.record is not None
        return env.record


def measure(steps: int, sandbox: str, rounds: int) -> tuple[float, float]:
    """Median seconds of playing and of replaying."""
    playing, replaying = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            started = time.perf_counter()
            record = play(steps, sandbox, Path(folder))
            played = time.perf_counter()
            assert mlrcbench.replay(record, records=folder).difference is None
            playing.append(played - started)
            replaying.append(time.perf_counter() - played)
    return statistics.median(playing), statistics.median(replaying)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sandbox", default="auto")
    options = parser.parse_args()
    rows = []
    for steps in options.steps:
        playing, replaying = measure(steps, options.sandbox, options.rounds)
        rows.append([str(steps), f"{playing:.2f} s", f"{replaying:.2f} s", f"{replaying / playing:.2f}"])
    print(table(["steps", "played", "replayed", "ratio"], rows))


if __name__ == "__main__":
    main()
