"""A forked copy of a process leaves the environments of the process alone."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench import Run, VectorEnv, WriteFile
from mlrcbench.errors import SandboxError, SnapshotError
from mlrcbench.storage.record import read_record
from tests.conftest import body

ACTIONS: dict[str, Callable[[mlrcbench.ResearchEnv], object]] = {
    "step": lambda env: env.step(Run("rm -rf *")),
    "write": lambda env: env.step(WriteFile("mine.txt", "theirs")),
    "evaluate": lambda env: env.evaluate(),
    "snapshot": lambda env: env.snapshot(),
    "fork": lambda env: env.fork(),
    "warm_up": lambda env: env.warm_up(),
    "close": lambda env: env.close(),
    "leave": lambda env: env.__exit__(None, None, None),
    "interrupt": lambda env: env.interrupt("by the child"),
    "reset": lambda env: (env.reset(seed=0), env.step(Run("rm -rf *")), env.close()),
}
REFUSED = ("step", "write", "evaluate", "snapshot", "fork", "warm_up")


def in_child(action: Callable[[], object]) -> str:
    """What an action raises in a forked copy of this process; empty if nothing. It has a minute."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            action()
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as answer:
        text = answer.read()
    assert os.waitpid(child, 0)[1] == 0, "the child hangs"
    return text


@pytest.mark.parametrize("name", ACTIONS)
def test_an_environment(env: mlrcbench.ResearchEnv, name: str) -> None:
    """Whatever the child does, the parent's workspace, record and snapshots stay; use is refused."""
    body(env, Run("echo mine > mine.txt"))
    state = env.snapshot()
    raised = in_child(lambda: ACTIONS[name](env))
    assert raised.startswith("SandboxError: this episode belongs to the process that began it") == (
        name in REFUSED
    )
    assert bool(raised) == (name in REFUSED)
    assert body(env, Run("cat mine.txt")).startswith("mine\n")
    env.restore(state)
    assert body(env, Run("cat mine.txt")).startswith("mine\n")
    folder = env.workspace.root.parent
    env.close()
    assert not folder.exists()
    assert env.record is not None
    record = read_record(env.record)
    assert [step.step for step in record.steps] == [1, 2]
    assert record.footer is not None
    assert record.footer.ending == "closed"


def test_a_snapshot(env: mlrcbench.ResearchEnv) -> None:
    """Its files are in the parent's store; an error tells the child how to take them over."""
    state = env.snapshot()
    other = mlrcbench.make("_template")
    assert in_child(lambda: other.restore(state)).startswith(
        f"{SnapshotError.__name__}: this snapshot belongs to the process that took it; save()"
    )
    env.restore(state)


def test_a_vector(tmp_path: Path) -> None:
    """Its threads do not exist in the child, which must not wait for them."""
    vector = VectorEnv("_template", 2, records=tmp_path)
    vector.reset(seed=0)
    refusal = f"{SandboxError.__name__}: this vector belongs to the process that made it"
    assert in_child(vector.close) == ""
    assert in_child(lambda: vector.step([Run("true")] * 2)).startswith(refusal)
    assert in_child(vector.reset).startswith(refusal)
    assert in_child(lambda: vector.get_attr("record")).startswith(refusal)
    *_, infos = vector.step([Run("true")] * 2)
    assert list(infos["action"]) == ["run", "run"]
    vector.close()
