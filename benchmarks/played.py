"""The cost of a played evaluation, as ratios against a bare pair of pipes in the same run.

    python benchmarks/played.py [--kinds strong landlock process] [--rounds 200]

A program in a sandbox answers each question with what it was asked; the floor is the same program outside
of any sandbox. What is compared is measured in turn, and medians are reported. The last table is the whole
evaluation of a game of 200 exchanges, against one without a game.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

import mlrcbench
from mlrcbench.artefacts.player import Player, PlayLimits
from mlrcbench.sandbox import Limits, Policy, open_sandbox
from mlrcbench.sandbox.probe import probe_tier

SIZES = (100, 10_000, 1_000_000)
EXCHANGES = 200
LIMITS = PlayLimits(
    exchanges=1_000_000,
    message_bytes=4_000_000,
    total_bytes=1 << 40,
    start_seconds=60,
    think_seconds=60,
    oracle_seconds=60,
    keep_bytes=0,
)
ECHO = """
import sys
sys.path.insert(0, {starter!r})
import game
for fields, arrays in game.questions():
    game.answer(fields, **arrays)
"""


def main() -> None:
    """Measure everything and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", default=["strong", "uid", "landlock", "process"])
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    kinds = [kind for kind in options.kinds if kind == "process" or probe_tier(kind).works]
    print("| sandbox | bytes | round trip, us | bare pipes, us | ratio |\n|---|---|---|---|---|")
    for kind in kinds:
        for size in SIZES:
            ours, floor = round_trips(kind, size, options.rounds if size < 1 << 19 else options.rounds // 8)
            print(f"| {kind} | {size:,} | {ours * 1e6:,.0f} | {floor * 1e6:,.0f} | {ours / floor:.2f} |")
    print("\n| sandbox | a game of 200 exchanges, s | the template's evaluation, s |\n|---|---|---|")
    for kind in kinds:
        game, plain = evaluations(kind)
        print(f"| {kind} | {game:.2f} | {plain:.2f} |")


def round_trips(kind: str, size: int, rounds: int) -> tuple[float, float]:
    """Median seconds of an exchange in a sandbox, and outside of any."""
    question = {"x": np.zeros(size, dtype=np.uint8)}
    with tempfile.TemporaryDirectory(prefix="mlrcbench-played-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with sandboxed(kind, folder / "a") as inside, bare(folder / "b") as outside:
            samples: dict[str, list[float]] = {"inside": [], "outside": []}
            for number in range(rounds + 5):
                for where, player in (("inside", inside), ("outside", outside)):
                    started = time.perf_counter()
                    player.ask({"round": number}, question)
                    if number >= 5:
                        samples[where].append(time.perf_counter() - started)
    return statistics.median(samples["inside"]), statistics.median(samples["outside"])


@contextmanager
def sandboxed(kind: str, folder: Path) -> Iterator[Player]:
    """A player whose other side runs in a sandbox."""
    workspace = prepared(folder)

    def run(ends: tuple[int, int]) -> None:
        with open_sandbox(kind, Policy(workspace)) as box:
            box.run(f"{sys.executable} echo.py", Limits(seconds=600), channel=ends)

    with joined(run, folder) as player:
        yield player


@contextmanager
def bare(folder: Path) -> Iterator[Player]:
    """A player whose other side is an ordinary process."""
    workspace = prepared(folder)

    def run(ends: tuple[int, int]) -> None:
        code = f"import os; os.dup2({ends[0]}, 3); os.dup2({ends[1]}, 4); exec(open('echo.py').read())"
        process = subprocess.Popen([sys.executable, "-c", code], cwd=workspace, pass_fds=ends)
        for end in ends:
            os.close(end)
        process.wait()

    with joined(run, folder) as player:
        yield player


@contextmanager
def joined(run: Callable[[tuple[int, int]], None], folder: Path) -> Iterator[Player]:
    """A player, and in a thread what is at the other ends of its pipes."""
    down_read, down_write = os.pipe()
    up_read, up_write = os.pipe()
    thread = threading.Thread(target=run, args=((down_read, up_write),))
    thread.start()
    try:
        transcript = folder / "transcript"
        with Player(down_write, up_read, limits=LIMITS, seconds=3600, transcript=transcript) as player:
            yield player
    finally:
        thread.join()


def prepared(folder: Path) -> Path:
    """A workspace with the program that echoes."""
    workspace = folder / "workspace"
    workspace.mkdir(parents=True)
    folder.chmod(0o711)
    starter = mlrcbench.get_competition("_played").starter
    (workspace / "game.py").write_text((starter / "game.py").read_text())
    (workspace / "echo.py").write_text(ECHO.format(starter="."))
    return workspace


def evaluations(kind: str) -> tuple[float, float]:
    """Median seconds of an evaluation, of the played template with more exchanges and of the other one."""
    samples: list[list[float]] = [[], []]
    with tempfile.TemporaryDirectory() as name:
        competitions = (longer(Path(name)), mlrcbench.get_competition("_template"))
        for _ in range(5):
            for competition, seconds in zip(competitions, samples, strict=True):
                with mlrcbench.make(competition, sandbox=kind, records=Path(name) / "records") as env:
                    env.reset(seed=0)
                    started = time.perf_counter()
                    score = env.evaluate("dev")
                    seconds.append(time.perf_counter() - started)
                    assert score.valid, score.reason
    return statistics.median(samples[0]), statistics.median(samples[1])


def longer(folder: Path) -> mlrcbench.Competition:
    """The played template with 200 exchanges."""
    path = folder / "_played"
    shutil.copytree(mlrcbench.get_competition("_played").folder, path)
    for file, old, new in (
        ("oracle.py", "ROUNDS = 8", f"ROUNDS = {EXCHANGES}"),
        ("card.toml", "exchanges = 8", f"exchanges = {EXCHANGES}"),
        ("card.toml", "total_bytes = 32768", "total_bytes = 1000000"),
    ):
        text = (path / file).read_text()
        assert old in text
        (path / file).write_text(text.replace(old, new))
    return mlrcbench.Competition(path)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
