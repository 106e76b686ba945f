"""The cost of many environments in one process, as ratios against one environment in the same run.

    python benchmarks/vector.py [--rounds 5] [--idle 500] [--sizes 1 8 64 256] [--sandbox auto]

Every pair is measured in turn, and medians are reported. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measure import resident, timed

import mlrcbench
from mlrcbench import KillJob, Run, StartJob, VectorEnv, WaitJob
from mlrcbench.sandbox.fork_client import supervisor_pids
from mlrcbench.text import table

BUDGET = {"steps": 10**6, "seconds": 86_400.0, "evaluations": 10**6}
ACTION = Run("true")
_JOB_SECONDS = 5.0
_POLL_SECONDS = 0.25


def latency(env: mlrcbench.ResearchEnv, steps: int = 100) -> float:
    """Median seconds of a step."""
    env.step(ACTION)
    return statistics.median(timed(lambda: env.step(ACTION)) for _ in range(steps))


def idle(make: Callable[[int], VectorEnv], rounds: int, number: int) -> list[list[str]]:
    """Rows for a step alone and with idle neighbours, in turn, and for the memory of each of these."""
    alone, crowded, library, sandbox = [], [], [], []
    with mlrcbench.make("_template", budget=BUDGET) as env:
        env.reset(seed=0)
        for _ in range(rounds):
            alone.append(latency(env))
            before = resident()
            vector = make(number)
            vector.reset(seed=0)
            library.append((resident() - before) / number)
            sandbox.append(sum(map(private, supervisor_pids())) / number)
            crowded.append(latency(env))
            vector.close()
    one, many = statistics.median(alone), statistics.median(crowded)
    return [
        [
            f"step with {number} idle / alone",
            f"{1000 * many:.2f} ms",
            f"{1000 * one:.2f} ms",
            f"{many / one:.2f}",
            "<= 1.3",
        ],
        [
            "memory of an environment, library",
            f"{statistics.median(library) / 2**20:.2f} MiB",
            "",
            "",
            "report",
        ],
        [
            "memory of an environment, sandbox",
            f"{statistics.median(sandbox) / 2**20:.2f} MiB",
            "",
            "",
            "report",
        ],
    ]


def throughput(make: Callable[[int], VectorEnv], rounds: int, sizes: list[int]) -> list[list[str]]:
    """Rows for the steps per second of vectors of some sizes, all in turn."""
    vectors = {size: make(size) for size in sizes}
    rates: dict[int, list[float]] = {size: [] for size in sizes}
    for size, vector in vectors.items():
        vector.reset(seed=0)
        vector.step([ACTION] * size)
    for _ in range(rounds):
        for size, vector in vectors.items():
            batches = max(2, 256 // size)
            seconds = timed(lambda v=vector, n=size, b=batches: [v.step([ACTION] * n) for _ in range(b)])
            rates[size].append(size * batches / seconds)
    for vector in vectors.values():
        vector.close()
    medians = {size: statistics.median(values) for size, values in rates.items()}
    one = medians[sizes[0]]
    return [
        [
            f"steps a second, {size} / {sizes[0]}",
            f"{rate:.0f}",
            f"{one:.0f}",
            f"{rate / one:.2f}",
            ">= 1" if size > sizes[0] else "",
        ]
        for size, rate in medians.items()
    ]


def waiting(sandbox: str, rounds: int) -> list[list[str]]:
    """Rows for waits for a job, in one step and by short sleeps, in turn: how late, in how many steps."""
    late: dict[str, list[float]] = {"wait": [], "poll": []}
    steps = 0
    with mlrcbench.make("_template", budget=BUDGET, sandbox=sandbox) as env:
        env.reset(seed=0)
        for number in range(1, 2 * rounds + 1):
            started = time.perf_counter()
            env.step(StartJob(f"sleep {_JOB_SECONDS}; touch done-{number}"))
            if number % 2:
                env.step(WaitJob(number))
            else:
                steps = 0
                while "yes" not in poll(env, number):
                    steps += 1
            late["wait" if number % 2 else "poll"].append(time.perf_counter() - started - _JOB_SECONDS)
            env.step(KillJob(number))
    ours, theirs = statistics.median(late["wait"]), statistics.median(late["poll"])
    return [
        [
            f"late for a job of {_JOB_SECONDS:g} s: wait_job / sleeps of {_POLL_SECONDS:g} s",
            f"{1000 * ours:.0f} ms",
            f"{1000 * theirs:.0f} ms",
            f"{ours / theirs:.2f}",
            "<= 1",
        ],
        ["steps for it: wait_job / sleeps", "1", str(steps + 1), "", "1"],
    ]


def poll(env: mlrcbench.ResearchEnv, number: int) -> str:
    """Sleep for some time inside, and print whether the job has ended."""
    observation, *_ = env.step(Run(f"sleep {_POLL_SECONDS}; [ -e done-{number} ] && echo yes"))
    text: str = observation["text"]
    return text


def private(pid: int) -> int:
    """Bytes of a process, with shared ones counted in proportion; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0
    return int(dict(line.split(None, 1) for line in lines)["Pss:"].split()[0]) << 10


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", type=int, default=500)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--sandbox", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlrcbench-benchmark-") as scratch:

        def make(number: int) -> VectorEnv:
            return VectorEnv("_template", number, sandbox=options.sandbox, budget=BUDGET, records=scratch)

        rows = idle(make, options.rounds, options.idle)
        rows += throughput(make, options.rounds, options.sizes)
        rows += waiting(options.sandbox, min(3, options.rounds))
    print(table(["what", "ours", "against", "ratio", "aim"], rows))


if __name__ == "__main__":
    main()
