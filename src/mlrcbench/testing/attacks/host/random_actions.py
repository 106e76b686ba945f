"""An agent that acts and damages its workspace at random: nothing but its own failure may follow."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mlrcbench.errors import MlrcbenchError, SandboxError, ScoringError
from mlrcbench.protocol.actions import (
    EditFile,
    Evaluate,
    KillJob,
    ReadFile,
    Run,
    StartJob,
    Submit,
    WaitJob,
    WriteFile,
)
from mlrcbench.testing.attacks.attack import Attack, Outcome, brief
from mlrcbench.testing.attacks.scene import Scene

_EPISODES, _ACTIONS = 3, 14
_GAIN = "has an episode end without a result, by actions and damage that are chosen at random"
ATTACKS = (Attack("random-actions", "random actions", _GAIN),)
# Commands that damage the workspace; {path} is one of the paths below.
_DAMAGE = (
    "rm -rf {path}", "mkdir -p {path}/x", "ln -sfn / {path}", "ln -sfn {path} {path}", "mkfifo {path}",
    "chmod 000 {path}", "chmod 444 .", "chmod 000 .", "chmod -R 777 .", "truncate -s 1T {path}",
    "head -c 3000000 /dev/urandom > {path}", "mv {path} moved", "ln {path} linked",
    "touch $'\\xff\\xfe' $'a\\nb'",
    "(cd {path} 2>/dev/null; for i in $(seq 400); do mkdir -p d && cd d; done)",
    "mkdir -p $(printf 'n%.0s' $(seq 250))/$(printf 'm%.0s' $(seq 250))/$(printf 'o%.0s' $(seq 250))",
    "exec -a x sleep 0.3 & disown", "kill -STOP $$", "exit 7", "ulimit -n 3; cat {path} < {path}",
)  # fmt: skip
_PATHS = (
    ".", "data", "outputs", "artefacts", "inputs", "main.py", "method.py", "README.md", "new", "../x",
    "/tmp/y", "a/" * 200 + "b", "n" * 300, "é" * 100, "x\x00y", "",
)  # fmt: skip
_TEXTS = ("", "x", "import os\nos._exit(1)\n", "\ud800", "\x00", "raise SystemExit(3)\n", "y" * 100_000)


def run(scene: Scene, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    """Play some episodes, each with its own random numbers, and look at their records."""
    for attack in attacks:
        started = time.monotonic()
        trouble = next(filter(None, (_episode(scene, seed) for seed in range(_EPISODES))), "")
        scene.reset()
        evidence = trouble or f"{_EPISODES} episodes ended, each with a complete record"
        yield Outcome(attack, bool(trouble), evidence, time.monotonic() - started)


def _episode(scene: Scene, seed: int) -> str:
    """Play one episode; returns what went wrong with it."""
    choice = random.Random(seed)
    scene.env.reset(seed=0)
    record, actions = scene.env.record, 0
    assert record is not None
    for action in [*(_action(choice) for _ in range(_ACTIONS)), Submit()]:
        actions += 1
        try:
            _, _, terminated, truncated, _ = scene.env.step(action)
        except (SandboxError, ScoringError) as error:
            return f"seed {seed}, {_name(action)}: the environment failed: {brief(error)}"
        except MlrcbenchError as error:
            return f"seed {seed}, {_name(action)}: {type(error).__name__}: {brief(error)}"
        except Exception as error:  # whatever it is, it has no name that a caller could expect
            return f"seed {seed}, {_name(action)}: {type(error).__name__}: {brief(error)}"
        if terminated or truncated:
            break
    scene.env.close()
    steps = _steps(record)
    return "" if steps == actions else f"seed {seed}: the record has {steps} of {actions} steps"


def _action(choice: random.Random) -> Any:
    """A random action; many are about paths and jobs that do not exist."""
    path, text = choice.choice(_PATHS), choice.choice(_TEXTS)
    quoted = "'" + path.replace("\x00", "") + "'"
    makers: Sequence[Callable[[], Any]] = (
        lambda: Run(choice.choice(_DAMAGE).format(path=quoted), 3.0),
        lambda: Run(choice.choice(_DAMAGE).format(path=quoted), 3.0),
        lambda: StartJob(
            "while true; do ln -sfn /etc data2; rm -f data2; mkdir data2; rmdir data2; done", 5.0
        ),
        lambda: WaitJob(choice.randrange(4), "match", "(a+)+$", max_seconds=0.2),
        lambda: KillJob(choice.randrange(4)),
        lambda: ReadFile(path),
        lambda: WriteFile(path, text),
        lambda: EditFile(path, "x", text),
        Evaluate,
    )
    return choice.choice(makers)()


def _name(action: Any) -> str:
    return repr(action)[:120]


def _steps(record: Path) -> int:
    rows = [json.loads(line) for line in (record / "record.jsonl").read_text("utf-8").splitlines()]
    return sum("action" in row for row in rows)
