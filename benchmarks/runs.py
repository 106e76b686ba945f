"""The cost of runs beyond their episodes, as ratios against doing without them.

    python benchmarks/runs.py [--rounds 5] [--seconds 10] [--episodes 8] [--pages 1000] [--sandbox auto]

- An episode of the runner against the same actions in an environment of this process.
- Two episodes at a time against one at a time; the best possible ratio is 0.5.
- A page of many episodes against reading their records once.
- Tasks of Ray against processes of this machine, if Ray is installed; its cluster is started before.

Every pair is measured in turn, and medians are reported. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measure import in_turn, row, timed

import mlrcbench
from mlrcbench.runs import Assignment, Result, run
from mlrcbench.runs.report import summarise, write_html
from mlrcbench.text import table

TEMPLATE = "_template"


class Bench:
    """Makes runs, each for one measurement and in a new directory."""

    def __init__(self, scratch: Path, sandbox: str, seconds: float, episodes: int) -> None:
        self.scratch, self.sandbox, self.episodes = scratch, sandbox, episodes
        self.command = f"sleep {seconds:g}"
        self._count = 0

    def fresh(self) -> Path:
        """A directory that does not exist so far."""
        self._count += 1
        return self.scratch / f"run-{self._count}"

    def directly(self) -> float:
        """Seconds of a step that sleeps and a submission, in this process."""

        def play() -> None:
            with mlrcbench.make(TEMPLATE, sandbox=self.sandbox, records=self.fresh()) as env:
                env.reset(seed=0)
                env.step(mlrcbench.Run(self.command))
                env.step(mlrcbench.Submit())

        return timed(play)

    def by_the_runner(self) -> float:
        """Seconds of the same actions of a program, played by the runner."""
        program = self.scratch / "agent.sh"
        program.write_text(
            f'read line; echo \'{{"action": "run", "command": "{self.command}"}}\'\n'
            'read line; echo \'{"action": "submit"}\'\n'
        )
        return self.many([f"external:sh {shlex.quote(str(program))}"], 1)

    def many(self, agents: list[str], trials: int, **options: Any) -> float:
        """Seconds of a run with that many trials of each agent."""
        directory, sandbox = self.fresh(), self.sandbox
        return timed(
            lambda: run(agents, [TEMPLATE], directory=directory, trials=trials, sandbox=sandbox, **options)
        )

    def grid(self, **options: Any) -> Callable[[], float]:
        """A measurement of several episodes of the baseline."""
        return lambda: self.many(["baseline"], self.episodes, **options)


def measure(bench: Bench, rounds: int, pages: int) -> Iterator[list[str]]:
    """The rows of the table."""
    ours, floor = in_turn(rounds, bench.by_the_runner, bench.directly)
    yield row(f"an episode with `{bench.command}`: runner / in this process", ours, floor, "1.05")
    ours, floor = in_turn(rounds, bench.grid(jobs=2), bench.grid(jobs=1))
    yield row(f"{bench.episodes} episodes: two at a time / one at a time", ours, floor, "0.6")
    yield from measure_report(bench, rounds, pages)
    yield from measure_ray(bench, rounds)


def measure_report(bench: Bench, rounds: int, pages: int) -> Iterator[list[str]]:
    """The row for a page of many episodes, which are copies of a few real ones."""
    played = run(
        ["baseline", "reference"], [TEMPLATE], directory=bench.fresh(), trials=2, sandbox=bench.sandbox
    )
    many: list[Result] = [
        dataclasses.replace(result, assignment=Assignment(result.assignment.agent, TEMPLATE, number, 0))
        for number in range(1 + pages // len(played))
        for result in played
    ][:pages]
    page = bench.scratch / "page.html"
    records = [result.folder / (result.record or "") for result in many]
    ours, floor = in_turn(
        rounds,
        lambda: timed(lambda: write_html(summarise(many), page)),
        lambda: timed(lambda: [mlrcbench.read_record(path) for path in records]),
    )
    size = page.stat().st_size / 1e6
    yield row(f"a page of {pages} episodes ({size:.1f} MB) / reading their records", ours, floor, "")


def measure_ray(bench: Bench, rounds: int) -> Iterator[list[str]]:
    """The row for Ray, with two episodes at a time."""
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
        rows = list(measure(bench, options.rounds, options.pages))
    print(table(["what", "ours, ms", "floor, ms", "ratio", "aim"], rows))


if __name__ == "__main__":
    main()
