"""What runs cost beyond their episodes, as ratios against doing without.

    python benchmarks/runs.py [--rounds 5] [--seconds 10] [--episodes 8] [--pages 1000] [--sandbox auto]

- An episode of the runner against the same actions in an environment of this process, in which no
  process is started for it.
- Two episodes at a time against one at a time; the best there is, is 0.5.
- A page of many episodes against reading their records once.
- Tasks of Ray against processes of this machine, if Ray is installed; its cluster is up before.

Every pair is measured in turn, A B A B, so that a drift of the machine's speed hits both
alike; medians are reported. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import shlex
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlrcbench
from mlrcbench.report import summarise, write_html
from mlrcbench.runs import Assignment, Result, run
from mlrcbench.table import table

TEMPLATE = "_template"


def timed(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def in_turn(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """Medians of measurements taken in turn, after one round that is not counted."""
    for measure in measures:
        measure()
    samples = [[measure() for measure in measures] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*samples, strict=True)]


def row(name: str, ours: float, floor: float, aim: str) -> list[str]:
    """A line of the table."""
    return [name, f"{1000 * ours:.0f}", f"{1000 * floor:.0f}", f"{ours / floor:.3f}", aim]


class Bench:
    """Runs in directories of their own, each made for one measurement."""

    def __init__(self, scratch: Path, sandbox: str, seconds: float, episodes: int) -> None:
        self.scratch, self.sandbox, self.episodes = scratch, sandbox, episodes
        self.command = f"sleep {seconds:g}"
        self._count = 0

    def fresh(self) -> Path:
        """A directory that is not there yet."""
        self._count += 1
        return self.scratch / f"run-{self._count}"

    def directly(self) -> float:
        """A step that sleeps, and the submission, in this process."""

        def play() -> None:
            with mlrcbench.make(TEMPLATE, sandbox=self.sandbox, records=self.fresh()) as env:
                env.reset(seed=0)
                env.step(mlrcbench.Run(self.command))
                env.step(mlrcbench.Submit())

        return timed(play)

    def by_the_runner(self) -> float:
        """The same from a program, played by the runner."""
        program = self.scratch / "agent.sh"
        program.write_text(
            f'read line; echo \'{{"action": "run", "command": "{self.command}"}}\'\n'
            'read line; echo \'{"action": "submit"}\'\n'
        )
        return self.many([f"external:sh {shlex.quote(str(program))}"], 1)

    def many(self, agents: list[str], trials: int, **options: Any) -> float:
        """A run with that many episodes."""
        directory, sandbox = self.fresh(), self.sandbox
        return timed(
            lambda: run(agents, [TEMPLATE], directory=directory, trials=trials, sandbox=sandbox, **options)
        )

    def grid(self, **options: Any) -> Callable[[], float]:
        """The baseline, several times."""
        return lambda: self.many(["baseline"], self.episodes, **options)


def measure(bench: Bench, rounds: int, pages: int) -> Iterator[list[str]]:
    """The lines of the table."""
    ours, floor = in_turn(rounds, bench.by_the_runner, bench.directly)
    yield row(f"an episode with `{bench.command}`: runner / in this process", ours, floor, "1.05")
    ours, floor = in_turn(rounds, bench.grid(jobs=2), bench.grid(jobs=1))
    yield row(f"{bench.episodes} episodes: two at a time / one at a time", ours, floor, "0.6")
    yield from measure_report(bench, rounds, pages)
    yield from measure_ray(bench, rounds)


def measure_report(bench: Bench, rounds: int, pages: int) -> Iterator[list[str]]:
    """A page of many episodes, copies of a few real ones."""
    played = run(
        ["baseline", "reference"], [TEMPLATE], directory=bench.fresh(), trials=2, sandbox=bench.sandbox
    )
    many: list[Result] = [
        dataclasses.replace(one, assignment=Assignment(one.assignment.agent, TEMPLATE, number, 0))
        for number in range(1 + pages // len(played))
        for one in played
    ][:pages]
    page = bench.scratch / "page.html"
    records = [one.folder / (one.record or "") for one in many]
    ours, floor = in_turn(
        rounds,
        lambda: timed(lambda: write_html(summarise(many), page)),
        lambda: timed(lambda: [mlrcbench.read_record(path) for path in records]),
    )
    size = page.stat().st_size / 1e6
    yield row(f"a page of {pages} episodes ({size:.1f} MB) / reading their records", ours, floor, "")


def measure_ray(bench: Bench, rounds: int) -> Iterator[list[str]]:
    """Both two at a time."""
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        return
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        ours, floor = in_turn(rounds, bench.grid(jobs=2, executor="ray"), bench.grid(jobs=2))
    finally:
        ray.shutdown()
    yield row(f"{bench.episodes} episodes, two at a time: Ray / processes", ours, floor, "1.1")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the episode that sleeps")
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--pages", type=int, default=1000, help="episodes of the page")
    parser.add_argument("--sandbox", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlrcbench-benchmark-") as scratch:
        Path(scratch).chmod(0o711)
        os.environ["MLRCBENCH_HOME"] = f"{scratch}/home"
        bench = Bench(Path(scratch), options.sandbox, options.seconds, options.episodes)
        lines = list(measure(bench, options.rounds, options.pages))
    print(table(["what", "ours, ms", "floor, ms", "ratio", "aim"], lines))


if __name__ == "__main__":
    main()
