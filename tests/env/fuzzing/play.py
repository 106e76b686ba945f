"""Playing what the fuzzers make, and asserting what must hold whatever it was."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from random import Random
from typing import Any

import mlrcbench
from mlrcbench import EditFile, Evaluate, KillJob, ReadFile, Run, StartJob, Submit, WriteFile
from mlrcbench.errors import WorkspaceError
from mlrcbench.storage.record import Record
from tests.env.fuzzing import workspaces
from tests.env.fuzzing.actions import action

EPISODE_ACTIONS = 250
_BUDGET = {"steps": 2**40, "seconds": 1e9, "evaluations": 2**40}


def make(records: Path, sandbox: str) -> mlrcbench.ResearchEnv:
    """The template with a budget that does not end."""
    return mlrcbench.make("_template", sandbox=sandbox, records=records, budget=_BUDGET, secret="public")


def play_actions(env: mlrcbench.ResearchEnv, seeds: range) -> None:
    """Take the action of each seed in one episode, or in several where one ends it.

    Raises:
        AssertionError: Something was raised, or a step is missing in the record; with the seed.
    """
    env.reset(seed=0)
    steps = 0
    for seed in seeds:
        try:
            observation, _, terminated, truncated, info = env.step(action(seed))
            steps += 1
            assert observation in env.observation_space
            _check_text(observation["text"], info)
        except Exception as error:
            raise AssertionError(f"the action of seed {seed}") from error
        if terminated or truncated:
            _check_record(env, steps)
            env.reset(seed=0)
            steps = 0
    env.reset(seed=0)
    _check_record(env, 0, running=True)


def play_workspace(env: mlrcbench.ResearchEnv, seed: int) -> str:
    """Damage a workspace, use it in every way, end the episode, and begin another one.

    Returns:
        How the episode ended.

    Raises:
        AssertionError: Something else was raised than what a docstring names, the record does not account for
            the episode, or the damage outlives it; with the seed.
    """
    rng = Random(seed)
    try:
        env.reset(seed=0)
        start = env.snapshot()
        _use(env, rng, start)
        steps = _steps(env)
        _, _, terminated, _, info = env.step(Submit())
        assert terminated
        assert info["test_score"]["outcome"] in ("scored", "invalid", "timeout", "memory")
        record = _check_record(env, steps + 1)
        assert record.evaluations[-1].split == "test"
        assert record.footer is not None
        env.reset(seed=0)
        _check_instance(env)
        return str(info["test_score"]["outcome"])
    except Exception as error:
        raise AssertionError(f"the workspace of seed {seed}: {workspaces.plan(Random(seed))}") from error


def _use(env: mlrcbench.ResearchEnv, rng: Random, start: mlrcbench.Snapshot) -> None:
    _step(env, Run(workspaces.command(workspaces.plan(rng))))
    swaps = rng.random() < 0.1
    if swaps:
        _step(env, StartJob(workspaces.SWAPPER))
    probes: list[Any] = [
        ReadFile("method.py"),
        ReadFile("data/x.npy"),
        WriteFile("method.py", "x = 1\n"),
        WriteFile("new/inner.txt", "x\n"),
        EditFile("method.py", "import", "import"),
        Run("ls -la"),
        "snapshot",
        Evaluate(),
    ]
    for probe in rng.sample(probes, 4):
        if probe == "snapshot":
            with contextlib.suppress(WorkspaceError):
                env.snapshot()
        else:
            _step(env, probe)
    if swaps and rng.random() < 0.5:
        _step(env, KillJob(1))
    if rng.random() < 0.2:
        env.restore(start)
        _step(env, Run("python main.py && ls -la"))


def _step(env: mlrcbench.ResearchEnv, action: Any) -> None:
    observation, _, terminated, truncated, info = env.step(action)
    assert not terminated
    assert not truncated
    _check_text(observation["text"], info)


def _check_text(text: str, info: dict[str, Any]) -> None:
    """What an agent reads is bounded, and like the info can be stored and sent."""
    text.encode("utf-8")
    json.dumps(info, ensure_ascii=False, allow_nan=False).encode("utf-8")


def _steps(env: mlrcbench.ResearchEnv) -> int:
    assert env.record is not None
    return len(mlrcbench.read_record(env.record).steps)


def _check_record(env: mlrcbench.ResearchEnv, steps: int, *, running: bool = False) -> Record:
    """The record can be read, holds every step, and ends as the episode did."""
    assert env.record is not None
    record = mlrcbench.read_record(env.record)
    assert len(record.steps) == steps
    assert (record.footer is None) == running
    assert record.footer is None or not record.footer.ending.startswith("failed")
    return record


def _check_instance(env: mlrcbench.ResearchEnv) -> None:
    """The next episode finds the shared files as they were."""
    public = env._keeper.require().instance.public
    assert public.stat().st_mode & 0o777 == 0o755
    times = set()
    for path in public.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o444)
        times.add(path.stat().st_mtime_ns)
    assert len(times) == 1
