"""What many environments in one process cost, as ratios against one environment in the same run.

    python benchmarks/vector.py [--rounds 5] [--idle 500] [--sizes 1 8 64 256] [--sandbox auto]

What is compared is measured in turn, A B A B, so that a drift of the machine's speed hits both
alike; medians are reported. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mlrcbench
from mlrcbench import KillJob, Run, StartJob, VectorEnv, WaitJob
from mlrcbench.sandbox.client import supervisor_pids
from mlrcbench.table import table

BUDGET = {"steps": 10**6, "seconds": 86_400.0, "evaluations": 10**6}
ACTION = Run("true")
_JOB_SECONDS = 5.0
_POLL_SECONDS = 0.25


def timed(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def latency(env: mlrcbench.ResearchEnv, steps: int = 100) -> float:
    """Median seconds of a step."""
    env.step(ACTION)
    return statistics.median(timed(lambda: env.step(ACTION)) for _ in range(steps))


def idle(make: Callable[[int], VectorEnv], rounds: int, number: int) -> list[list[str]]:
    """A step alone and with idle neighbours, in turn; memory of each of these."""
    alone, beside, own, theirs = [], [], [], []
    with mlrcbench.make("_template", budget=BUDGET) as env:
        env.reset(seed=0)
        for _ in range(rounds):
            alone.append(latency(env))
            before = resident(os.getpid())
            vector = make(number)
            vector.reset(seed=0)
            own.append((resident(os.getpid()) - before) / number)
            theirs.append(sum(map(private, supervisor_pids())) / number)
            beside.append(latency(env))
            vector.close()
    one, many = statistics.median(alone), statistics.median(beside)
    return [
        [
            f"step with {number} idle / alone",
            f"{1000 * many:.2f} ms",
            f"{1000 * one:.2f} ms",
            f"{many / one:.2f}",
            "<= 1.3",
        ],
        ["memory of an environment, library", f"{statistics.median(own) / 2**20:.2f} MiB", "", "", "report"],
        [
            "memory of an environment, sandbox",
            f"{statistics.median(theirs) / 2**20:.2f} MiB",
            "",
            "",
            "report",
        ],
    ]


def throughput(make: Callable[[int], VectorEnv], rounds: int, sizes: list[int]) -> list[list[str]]:
    """Steps a second of vectors of some sizes, all in turn."""
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
    medians = {size: statistics.median(found) for size, found in rates.items()}
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
    """A job of some seconds, awaited in one step and by short sleeps, in turn: how late, how many steps."""
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
    """Sleep a while inside, and look whether the job has ended."""
    observation, *_ = env.step(Run(f"sleep {_POLL_SECONDS}; [ -e done-{number} ] && echo yes"))
    text: str = observation["text"]
    return text


def resident(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def private(pid: int) -> int:
    """Bytes that a process shares with none, or shares with others in proportion; 0 if it is gone."""
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

        lines = idle(make, options.rounds, options.idle)
        lines += throughput(make, options.rounds, options.sizes)
        lines += waiting(options.sandbox, min(3, options.rounds))
    print(table(["what", "ours", "against", "ratio", "aim"], lines))


if __name__ == "__main__":
    main()
