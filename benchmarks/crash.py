"""What remains when the process is killed: SIGKILL at random moments, many times.

    python benchmarks/crash.py [--kills 200] [--seed 0]

Each round forks a worker that does one kind of work again and again, and kills it after a random
time. Then every process that it had started must end, its files must be complete or be recognised
as incomplete, and the next worker must be able to continue with the same folders. The exit status
is 1 if there is a fault, and each fault is printed.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import mlrcbench
from mlrcbench.catalog.competition import Competition
from mlrcbench.storage.temporary import remove_dead_scratch

PR_SET_CHILD_SUBREAPER = 36
KINDS = ("snapshot", "restore", "save", "instance", "record")
LONGEST_SECONDS = 0.8
METHOD = "import numpy as np\n\n\ndef predict(train, x):\n    return np.full(len(x), {number}.0)\n"
END_SECONDS = 20.0


def with_files(folder: Path) -> mlrcbench.ResearchEnv:
    """An environment with files in its workspace."""
    env = mlrcbench.make("_template", records=folder / "records", budget={"steps": 10**6})
    env.reset(seed=0)
    env.step(
        mlrcbench.Run("for n in $(seq 100); do echo $n > $n.txt; done; head -c 3000000 /dev/urandom > big")
    )
    return env


def change(env: mlrcbench.ResearchEnv, number: int) -> None:
    """Change a few files, one of them large."""
    root = env._keeper.require().workspace.root
    (root / f"{number % 100}.txt").write_text(f"{number} again")
    (root / "big").write_bytes(os.urandom(3_000_000))


def work_snapshot(folder: Path) -> None:
    """Take snapshots without end."""
    env = with_files(folder)
    for number in itertools.count():
        change(env, number)
        env.snapshot()


def work_restore(folder: Path) -> None:
    """Restore and fork two snapshots without end."""
    env = with_files(folder)
    snapshots = [env.snapshot()]
    change(env, 1)
    snapshots.append(env.snapshot())
    for number in itertools.count():
        env.restore(snapshots[number % 2])
        for child in env.fork(2):
            child.evaluate("dev") if number % 8 == 0 else child.step(mlrcbench.WriteFile("x.txt", "x"))
            child.close()


def work_save(folder: Path) -> None:
    """Save snapshots to the same file without end."""
    env = with_files(folder)
    for number in itertools.count():
        change(env, number)
        env.snapshot().save(folder / "saved.snapshot")


def work_instance(folder: Path) -> None:
    """Build new instances without end."""
    competition = mlrcbench.get_competition("_template")
    for number in itertools.count(int(time.time() * 1000) % 10**9):
        (folder / "next.new").write_text(f"{number}")
        (folder / "next.new").replace(folder / "next")
        competition.instance(number)


def work_record(folder: Path) -> None:
    """Make steps and evaluations without end."""
    env = mlrcbench.make(
        "_template", records=folder / "records", budget={"steps": 10**6, "evaluations": 10**6}
    )
    env.reset(seed=0)
    for number in itertools.count():
        env.step(mlrcbench.WriteFile("method.py", METHOD.format(number=number)))
        env.step(mlrcbench.Run(f"seq 1 {number % 3 * 10_000}"))
        if number % 5 == 0:
            env.step(mlrcbench.Evaluate())


def check_saved(folder: Path) -> Iterator[str]:
    """The file of an earlier save is complete, and can be restored."""
    for path in folder.glob("*.snapshot"):
        try:
            start = mlrcbench.load_snapshot(path)
            with mlrcbench.make("_template", records=folder / "checks", budget={"steps": 10**6}) as env:
                env.restore(start)
                env.step(mlrcbench.ReadFile("1.txt"))
        except mlrcbench.MlrcbenchError as error:
            yield f"a saved snapshot is damaged: {error}"


def check_records(folder: Path) -> Iterator[str]:
    """Each record can be read up to where it breaks off, and its scores can be reproduced."""
    for path in (folder / "records").glob("*"):
        if not (path / "record.jsonl").exists() or not (path / "record.jsonl").read_bytes().count(b"\n"):
            continue  # killed before its first line was written
        try:
            record = mlrcbench.read_record(path)
            if [row.step for row in record.steps] != list(range(1, len(record.steps) + 1)):
                yield f"{path.name} lacks a step"
            if not all(entry.matches for entry in mlrcbench.rescore(path)[-2:]):
                yield f"{path.name} gets other scores now"
        except mlrcbench.MlrcbenchError as error:
            yield f"a record is damaged: {error}"
        shutil.rmtree(path)


def check_next(folder: Path, competition: Competition) -> Iterator[str]:
    """A new environment works with the same folders, and an interrupted build succeeds."""
    try:
        if (folder / "next").exists():
            competition.instance(int((folder / "next").read_text()))
        with mlrcbench.make(competition, records=folder / "checks") as env:
            env.reset(seed=0)
            env.restore(env.snapshot())
            observation, *_ = env.step(mlrcbench.Run("cat method.py && ls data/train.npy"))
            if "[exit status 0]" not in observation["text"]:
                yield f"the next run fails: {observation['text']}"
    except mlrcbench.MlrcbenchError as error:
        yield f"the next run fails: {error}"


def check_leftovers(home: Path) -> Iterator[str]:
    """Killed processes leave no temporary folders on the disk."""
    remove_dead_scratch()
    folders = list(Path(tempfile.gettempdir()).glob("mlrcbench-process-*/*"))
    if folders:
        yield f"{len(folders)} temporary folders are left: {folders[0].name}, ..."
    torn = list((home / "instances").glob("*/.building-*"))
    if torn:
        yield f"{len(torn)} half-built instances are left"


def check(kind: str, folder: Path) -> Iterator[str]:
    """All faults after a worker of this kind was killed."""
    yield from check_next(folder, mlrcbench.get_competition("_template"))
    yield from check_leftovers(folder / "home")
    if kind == "save":
        yield from check_saved(folder)
    elif kind != "instance":
        yield from check_records(folder)


def wait_for_all(what: str) -> Iterator[str]:
    """All processes that were started end by themselves, as this process, a subreaper, can see."""
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            return
    yield f"processes of {what} are still running"


def start(work: Callable[[], object]) -> int:
    """Do some work in a forked process; returns its number."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(0)
    return pid


def kill_one(kind: str, folder: Path, seconds: float) -> Iterator[str]:
    """Start a worker, kill it after some seconds, and check what remains."""
    worker = start(lambda: globals()[f"work_{kind}"](folder))
    time.sleep(seconds)
    if os.waitpid(worker, os.WNOHANG)[0]:
        yield f"the worker for {kind} ended by itself"
    else:
        os.kill(worker, signal.SIGKILL)
    yield from wait_for_all(f"a worker for {kind}")
    report = folder / "report"
    start(lambda: report.write_text("\n".join(check(kind, folder))))
    yield from wait_for_all(f"a check of {kind}")
    if not report.exists():
        yield f"the check of {kind} failed itself"
        return
    yield from report.read_text().splitlines()
    report.unlink()


def main() -> None:
    """Kill and check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    moments = random.Random(options.seed)
    kills: Counter[str] = Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="crash-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o711)
        (folder / "tmp").mkdir(mode=0o711)
        tempfile.tempdir = str(folder / "tmp")
        os.environ["MLRCBENCH_HOME"] = str(folder / "home")
        for kind in itertools.islice(itertools.cycle(KINDS), options.kills):
            new_faults = list(kill_one(kind, folder, moments.uniform(0.0, LONGEST_SECONDS)))
            kills[kind] += 1
            faults += [f"{kind}, kill {kills[kind]}: {fault}" for fault in new_faults]
            shutil.rmtree(folder / "checks", ignore_errors=True)
    print(", ".join(f"{kind}: {count} kills" for kind, count in kills.items()))
    print("\n".join(faults) or "nothing is damaged, nothing is left, the next run goes on")  # prose: ok
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
