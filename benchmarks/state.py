"""The cost of snapshots, restores and forks, as ratios against doing the same by hand.

    python benchmarks/state.py [--rounds 30] [--sandbox auto]

Every pair is measured in turn, and medians are reported. pygit2 is measured too if it is installed.
Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measure import in_turn, row, timed

import mlrcbench
from mlrcbench.catalog.competition import Competition
from mlrcbench.text import table

FILES = {30: 4_000, 1_000: 2_000}
BIG_BYTES = 50_000_000
DATA_BYTES = 300_000_000
DATA = """
import importlib.util
from pathlib import Path

import numpy as np

spec = importlib.util.spec_from_file_location("template_data", {template!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)


def build(public: Path, private: Path, *, seed: int, tier: str) -> None:
    module.build(public, private, seed=seed, tier=tier)
    with (public / "large.bin").open("wb") as file:
        for number in range({megabytes}):
            file.write(np.random.default_rng([seed, number]).bytes(1_000_000))
"""


def spawn_seconds() -> float:
    """Seconds to start a process and wait for its end: the floor of anything that starts one."""
    return timed(lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], os.environ), 0))


def disk_bytes(*roots: Path) -> int:
    """Bytes that trees take on the disk, each inode counted once."""
    sizes: dict[tuple[int, int], int] = {}
    for root in roots:
        for folder, names, files in os.walk(root):
            for name in (*names, *files):
                with contextlib.suppress(OSError):
                    state = os.lstat(os.path.join(folder, name))
                    sizes[state.st_dev, state.st_ino] = 512 * state.st_blocks
    return sum(sizes.values())


class Tree:
    """An environment with many files in its workspace, of which one changes each time."""

    def __init__(self, env: mlrcbench.ResearchEnv, count: int, scratch: Path) -> None:
        self.env, self.scratch, self.count = env, scratch, count
        self.root = env._keeper.require().workspace.root
        for number in range(count):
            path = self.root / f"{number % 20}" / f"{number}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(os.urandom(FILES[count] // 2).hex().encode())
        # Where commands run as another user, the files become that user's with the first command.
        env.step(mlrcbench.Run("ls"))
        time.sleep(0.05)
        self.first = env.snapshot()

    def change(self) -> None:
        """Give one file another content."""
        (self.root / "7" / "7.py").write_bytes(os.urandom(2_000))

    def snapshot(self) -> float:
        """Seconds of a snapshot after a change of one file."""
        self.change()
        return timed(self.env.snapshot)

    def restore(self) -> float:
        """Seconds of a restore after a change of one file."""
        self.change()
        return timed(lambda: self.env.restore(self.first))

    def copy(self) -> float:
        """Seconds to copy the whole tree; the removal of the copy is not counted."""
        self.change()
        target = self.scratch / "copy"
        seconds = timed(lambda: shutil.copytree(self.root, target, symlinks=True))
        shutil.rmtree(target)
        return seconds

    def git(self) -> float:
        """Seconds of `git add` and `git write-tree`, with the index of the last call."""
        self.change()
        folder = self.scratch / f"git-{self.count}"
        command = ["git", f"--git-dir={folder}", f"--work-tree={self.root}"]
        if not folder.exists():
            subprocess.run([*command, "init", "-q"], check=True, capture_output=True)
        return timed(
            lambda: (
                subprocess.run([*command, "add", "-A"], check=True, capture_output=True),
                subprocess.run([*command, "write-tree"], check=True, capture_output=True),
            )
        )

    def pygit2(self) -> Callable[[], float] | None:
        """A measurement of the same in this process; None unless pygit2 is installed."""
        try:
            pygit2: Any = importlib.import_module("pygit2")
        except ImportError:
            return None
        folder = self.scratch / f"pygit2-{self.count}"
        repository = pygit2.init_repository(str(folder), bare=True)
        repository.workdir = str(self.root)

        def add() -> None:
            repository.index.add_all()
            repository.index.write()
            repository.index.write_tree()

        def measure() -> float:
            self.change()
            return timed(add)

        return measure


def measure_trees(env: mlrcbench.ResearchEnv, rounds: int, scratch: Path) -> Iterator[list[str]]:
    """Snapshots and restores of many small files."""
    for count, aim in ((30, "<= 0.5"), (1_000, "<= 0.25")):
        env.reset(seed=0)
        tree = Tree(env, count, scratch)
        pygit2 = tree.pygit2()
        measures = [tree.snapshot, tree.copy, tree.git, *([pygit2] if pygit2 else [])]
        ours, copy, git, *other = in_turn(rounds, *measures)
        name = f"snapshot, one of {count:,} files changed"
        yield row(f"{name} / copytree", ours, copy, aim)
        yield row(f"{name} / git add, write-tree", ours, git, "< 1")
        if other:
            yield row(f"{name} / pygit2", ours, other[0], "< 1")
        ours, copy = in_turn(rounds, tree.restore, tree.copy)
        yield row(f"restore, one of {count:,} files changed / copytree", ours, copy, "<= 0.8")


def measure_forks(env: mlrcbench.ResearchEnv, rounds: int) -> Iterator[list[str]]:
    """Forks of a large workspace."""
    env.reset(seed=0)
    root = env._keeper.require().workspace.root
    content = os.urandom(BIG_BYTES)

    def fork(use: bool) -> tuple[float, int]:
        children: list[mlrcbench.ResearchEnv] = []
        write = mlrcbench.WriteFile("x.txt", "x")
        seconds = timed(lambda: children.extend(env.fork(8)))
        if use:
            seconds += timed(lambda: [child.step(write) for child in children])
        folders = [env._keeper.store().folder, *(child._keeper._folder.path for child in children)]
        disk = disk_bytes(*folders)
        for child in children:
            child.close()
        return seconds, disk

    def first() -> float:
        (root / "big").write_bytes(content[:-8] + os.urandom(8))
        time.sleep(0.05)
        return timed(env.snapshot)

    few = max(3, rounds // 5)
    ours, floor = in_turn(few, first, spawn_seconds)
    yield row("first snapshot of 50 MB / one process spawn", ours, floor, "report")
    ours, floor = in_turn(rounds, lambda: fork(False)[0], spawn_seconds)
    yield row("fork(8) of 50 MB, unchanged since a snapshot / one process spawn", ours, floor, "<= 10")
    ours, floor = in_turn(few, lambda: fork(True)[0], spawn_seconds)
    yield row("the same and a first step in each, which lays out 50 MB / spawn", ours, floor, "report")
    env.reset(seed=0)
    (env._keeper.require().workspace.root / "big").write_bytes(content)
    env._keeper.store().sweep()
    for use, aim in ((False, "<= 60 MB"), (True, "report")):
        disk = fork(use)[1]
        yield [
            f"disk of the store and 8 forks, {'used' if use else 'not used yet'}, MB",
            f"{disk / 1e6:.0f}",
            "",
            "",
            aim,
        ]


def large_competition(scratch: Path, template: Competition) -> Competition:
    """The template with a large dataset and room in its workspace."""
    folder = scratch / "large"
    shutil.copytree(template.folder, folder)
    card = (folder / "card.toml").read_text()
    card = card.replace('id = "_template"', 'id = "large"').replace(
        "workspace_mb = 16", "workspace_mb = 1000"
    )
    (folder / "card.toml").write_text(card)
    code = DATA.format(template=str(template.folder / "data.py"), megabytes=DATA_BYTES // 1_000_000)
    (folder / "data.py").write_text(code)
    return Competition(folder)


def measure_resets(large: Competition, rounds: int, sandbox: str, scratch: Path) -> Iterator[list[str]]:
    """Resets of prepared instances, with and without a large dataset."""
    options = {"sandbox": sandbox, "records": scratch / "records"}
    with mlrcbench.make(large, **options) as much, mlrcbench.make("_template", **options) as little:

        def reset(env: mlrcbench.ResearchEnv) -> float:
            env.close()
            return timed(lambda: env.reset(seed=0))

        ours, floor = in_turn(rounds, lambda: reset(much), lambda: reset(little))
        yield row("reset of a prepared instance with 300 MB of data / without", ours, floor, "<= 4")


def measure(rounds: int, sandbox: str, scratch: Path) -> Iterator[list[str]]:
    """All rows of the table."""
    large = large_competition(scratch, mlrcbench.get_competition("_template"))
    budget = {"steps": 10**6, "evaluations": 10**6, "seconds": 10**6}
    options = {"sandbox": sandbox, "records": scratch / "records", "budget": budget}
    with mlrcbench.make(large, **options) as env:
        yield from measure_trees(env, rounds, scratch)
        yield from measure_forks(env, rounds)
    yield from measure_resets(large, rounds, sandbox, scratch)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--sandbox", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlrcbench-benchmark-") as scratch:
        Path(scratch).chmod(0o711)
        os.environ["MLRCBENCH_HOME"] = f"{scratch}/home"
        rows = list(measure(options.rounds, options.sandbox, Path(scratch)))
    print(table(["what", "ours, ms", "floor, ms", "ratio", "aim"], rows))


if __name__ == "__main__":
    main()
