"""The cost of the core loop, as ratios against a floor measured in the same run.

    python benchmarks/core.py [--rounds 50] [--sandbox auto]

Every pair is measured in turn, and medians are reported. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import in_turn, row, timed

import mlrcbench
from mlrcbench.text import table

IMPORT = "import time; t = time.perf_counter(); import {0}; print(time.perf_counter() - t)"
TEXT = "x = 1\n" * 200
SLEEPER = "import time\nfrom method_before import predict\n\ntime.sleep({seconds})\n"


def import_seconds(module: str) -> float:
    """Seconds to import a module in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT.format(module)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def copy_seconds(source: Path, scratch: Path) -> float:
    """Seconds to copy a folder; the removal of the copy is not counted."""
    target = scratch / "copy"
    seconds = timed(lambda: shutil.copytree(source, target))
    shutil.rmtree(target)
    return seconds


def reset_seconds(env: mlrcbench.ResearchEnv) -> float:
    """Seconds of a reset after an episode has ended; the end of the episode is not counted."""
    env.close()
    return timed(lambda: env.reset(seed=0))


def entry_seconds(env: mlrcbench.ResearchEnv, seconds: float, scratch: Path) -> tuple[float, float]:
    """Seconds of an evaluation whose entry point takes some seconds, and of the same run by hand."""
    competition = env.competition
    env.reset(seed=0)
    original = (competition.starter / "method.py").read_text("utf-8")
    env.step(mlrcbench.WriteFile("method_before.py", original))
    env.step(mlrcbench.WriteFile("method.py", SLEEPER.format(seconds=seconds)))
    evaluated = timed(lambda: env.evaluate("dev"))
    folder = scratch / "by-hand"
    shutil.copytree(competition.starter, folder)
    instance = competition.instance(0)
    (folder / "data").symlink_to(instance.public)
    (folder / "inputs").symlink_to(instance.inputs("dev"))
    (folder / "artefacts").mkdir()
    (folder / "method_before.py").write_text(original)
    (folder / "method.py").write_text(SLEEPER.format(seconds=seconds))
    command = f"PATH={Path(sys.executable).parent}:$PATH; {competition.card.entry_point}"
    bash = ["bash", "-c", command]
    by_hand = timed(lambda: subprocess.run(bash, cwd=folder, capture_output=True, check=True))
    shutil.rmtree(folder)
    return evaluated, by_hand


def measure(rounds: int, sandbox: str, scratch: Path) -> list[list[str]]:
    """All rows of the table."""
    rows = []
    ours, floor = in_turn(rounds, lambda: import_seconds("mlrcbench"), lambda: import_seconds("gymnasium"))
    rows.append(row("import mlrcbench / import gymnasium", ours, floor, "<= 1.3"))
    for name in ("_template", *(card.id for card in mlrcbench.list_competitions())):
        with mlrcbench.make(name, sandbox=sandbox, records=scratch / "records") as env:
            env.reset(seed=0)
            starter = env.competition.starter
            ours, floor = in_turn(
                rounds,
                lambda env=env: reset_seconds(env),
                lambda starter=starter: copy_seconds(starter, scratch),
            )
            rows.append(row(f"reset {name} / copytree of its starter", ours, floor, "<= 3"))
    budget = {"steps": 10**6, "evaluations": 10**6}
    with mlrcbench.make("_template", sandbox=sandbox, records=scratch / "records", budget=budget) as env:
        env.reset(seed=0)
        write, run = mlrcbench.WriteFile("x.py", TEXT), mlrcbench.Run("true")
        ours, floor = in_turn(
            rounds,
            lambda: timed(lambda: env.step(write)),
            lambda: timed(lambda: (scratch / "x").write_text(TEXT)),
        )
        rows.append(row("step WriteFile / bare write", ours, floor, "report"))
        bash = ["bash", "-c", "true"]
        ours, floor = in_turn(
            rounds,
            lambda: timed(lambda: env.step(run)),
            lambda: timed(lambda: subprocess.run(bash, capture_output=True, check=True)),
        )
        rows.append(row('step Run("true") / subprocess.run', ours, floor, "report"))
        samples = [entry_seconds(env, 0.0, scratch) for _ in range(rounds)]
        extra = statistics.median(ours - floor for ours, floor in samples)
        rows.append(
            [f"evaluation's own overhead, {rounds} rounds, ms", f"{1000 * extra:.1f}", "", "", "<= 500"]
        )
        samples = [entry_seconds(env, 10.0, scratch) for _ in range(3)]
        ours, floor = (statistics.median(column) for column in zip(*samples, strict=True))
        rows.append(row("evaluation of a 10 s entry point / by hand, 3 rounds", ours, floor, "<= 1.05"))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--sandbox", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlrcbench-benchmark-") as scratch:
        rows = measure(options.rounds, options.sandbox, Path(scratch))
    print(table(["what", "ours, ms", "floor, ms", "ratio", "aim"], rows))


if __name__ == "__main__":
    main()
