"""A long run: `python -m tests.env.fuzzing --actions 100000 --workspaces 10000 --seed 0`.

A failure names its seed. A run that was stopped continues with `--seed`, at the seed that was printed last.
"""

from __future__ import annotations

import argparse
import collections
import os
import tempfile
import time
import traceback
from pathlib import Path

from tests.env.fuzzing.play import EPISODE_ACTIONS, make, play_actions, play_workspace

_MINUTE = 60.0


def main() -> int:
    """Play both fuzzers; returns 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--actions", type=int, default=100_000, help="how many actions")
    parser.add_argument("--workspaces", type=int, default=10_000, help="how many workspaces")
    parser.add_argument("--seed", type=int, default=0, help="the first seed of both")
    parser.add_argument("--sandbox", default="auto", help="kind of sandbox")
    options = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLRCBENCH_HOME"] = f"{folder}/home"
        with make(Path(folder) / "records", options.sandbox) as env:
            end = options.seed + options.actions
            shown = time.monotonic()
            for first in range(options.seed, end, EPISODE_ACTIONS):
                try:
                    play_actions(env, range(first, min(first + EPISODE_ACTIONS, end)))
                except AssertionError:
                    failures += 1
                    traceback.print_exc()
                if time.monotonic() - shown > _MINUTE:
                    shown = time.monotonic()
                    print(f"actions up to seed {first}, {failures} failures", flush=True)
            outcomes: collections.Counter[str] = collections.Counter()
            for seed in range(options.seed, options.seed + options.workspaces):
                try:
                    outcomes[play_workspace(env, seed)] += 1
                except AssertionError:
                    failures += 1
                    traceback.print_exc()
                if time.monotonic() - shown > _MINUTE:
                    shown = time.monotonic()
                    print(f"workspaces up to seed {seed}, {failures} failures, {dict(outcomes)}", flush=True)
    print(f"{options.actions} actions, {options.workspaces} workspaces {dict(outcomes)}: {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
