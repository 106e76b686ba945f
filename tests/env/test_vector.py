"""The vector environment in threads: Gymnasium's contract, deadlines, and nothing left behind."""

from __future__ import annotations

import json
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode

import mlrcbench
from mlrcbench import Run, StartJob, Submit, VectorEnv, WaitJob, WriteFile
from mlrcbench.catalog.competition import Competition
from tests.conftest import SANDBOX, copy_of_template
from tests.env.test_research_env import PERFECT
from tests.sandbox.conftest import running


def make(tmp_path: Path, number: int = 3, **options: Any) -> VectorEnv:
    """A vector of the template's environments."""
    return VectorEnv("_template", number, **{"sandbox": SANDBOX, "records": tmp_path / "records", **options})


@pytest.fixture
def vector(tmp_path: Path) -> Iterator[VectorEnv]:
    """Three environments, reset."""
    new_vector = make(tmp_path)
    new_vector.reset(seed=0)
    yield new_vector
    new_vector.close()


def test_it_is_a_vector_environment(vector: VectorEnv) -> None:
    """Spaces, metadata and what is returned are as Gymnasium declares them."""
    assert isinstance(vector, gymnasium.vector.VectorEnv)
    assert vector.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert vector.spec is not None
    assert vector.spec.id == "mlrcbench/Template-v0"
    vector.action_space.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        observation, infos = vector.reset(seed=3)
        assert observation in vector.observation_space
        for _ in range(3):
            observation, rewards, terminated, truncated, infos = vector.step(vector.action_space.sample())
            assert observation in vector.observation_space
            assert rewards.dtype == np.float64
            for batch in (rewards, terminated, truncated, infos["_action"]):
                assert batch.shape == (3,)
    assert set(infos["action"]) <= {"run", "read_file", "write_file", "start_job"}


def test_it_returns_what_gymnasiums_vector_returns(tmp_path: Path) -> None:
    """The same seeds and actions give the same results, except for the clock, also after an end."""
    runs = []
    for mode in ("sync", "threads"):
        options = {"sandbox": SANDBOX, "records": tmp_path, "instances": 4}
        batch = mlrcbench.make_vec("_template", 3, vectorization_mode=mode, **options)
        run: list[Any] = [batch.reset(seed=5)]
        submit, wrong = json.dumps({"action": "submit"}), "nonsense"
        script = ((wrong, submit, "{}"), (submit, "ignored", wrong), (wrong, wrong, submit))
        run.extend(batch.step(actions) for actions in script)
        run.append(batch.reset(seed=5))
        batch.close()
        runs.append(run)
    for left, right in zip(*runs, strict=True):
        for one, other in zip(left, right, strict=True):
            if isinstance(one, dict) and "text" in one:
                texts = [[text.rpartition("\n")[0] for text in both["text"]] for both in (one, other)]
                assert texts[0] == texts[1]
                assert np.array_equal(one["steps_left"], other["steps_left"])
            else:
                assert data_equivalence(one, other)


def test_the_step_after_an_end_is_the_reset(vector: VectorEnv) -> None:
    """Its action is ignored, its reward 0, and its info is that of a reset."""
    better = [WriteFile("method.py", PERFECT)] * 3
    vector.step(better)
    _, rewards, terminated, _, infos = vector.step([Submit(), Run("true"), Submit()])
    assert terminated.tolist() == [True, False, True]
    assert (rewards > 0.9).tolist() == [True, False, True]
    assert infos["_test_score"].tolist() == [True, False, True]
    observation, rewards, terminated, _, infos = vector.step([Submit()] * 3)
    assert [text.startswith("# A hidden line") for text in observation["text"]] == [True, False, True]
    assert terminated.tolist() == [False, True, False]
    assert (rewards > 0.9).tolist() == [False, True, False]
    assert infos["_isolation"].tolist() == [True, False, True]
    observation, *_ = vector.step([Run("true")] * 3)
    assert observation["steps_left"].ravel().tolist() == [19, 20, 19]


def test_a_mask_selects_what_is_reset(vector: VectorEnv) -> None:
    """The other environments continue."""
    vector.step([Run("true")] * 3)
    observation, infos = vector.reset(options={"reset_mask": np.array([False, True, False])})
    assert observation["steps_left"].ravel().tolist() == [19, 20, 19]
    assert infos["_instance"].tolist() == [False, True, False]


def test_what_does_not_fit_is_refused(vector: VectorEnv, tmp_path: Path) -> None:
    """Wrong numbers of actions and seeds, wrong options and modes are errors."""
    with pytest.raises(ValueError, match="2 actions were given for 3"):
        vector.step([Run("true")] * 2)
    with pytest.raises(ValueError, match="as many seeds"):
        vector.reset(seed=[1, 2])
    with pytest.raises(mlrcbench.RegistryError, match="num_envs >= 1"):
        make(tmp_path, 0)
    with pytest.raises(mlrcbench.RegistryError, match="Did you mean 'threads'"):
        mlrcbench.make_vec("_template", 1, vectorization_mode="thread")
    with pytest.raises(mlrcbench.RegistryError, match="no option 'seed'"):
        vector.reset(options={"seed": 1})


@pytest.mark.parametrize("slow", [Run("sleep 4321.71"), WaitJob(1)], ids=["run", "wait_job"])
def test_a_slow_action_does_not_stop_the_batch(slow: mlrcbench.Action, tmp_path: Path) -> None:
    """It is truncated for that reason, ended, and reset by the next step; the others continue."""
    vector = make(tmp_path, deadline=5.0, instances=50)
    vector.reset(seed=0)
    first = vector.envs[1]
    vector.step([StartJob("sleep 4321.71")] * 3)
    observation, rewards, terminated, truncated, infos = vector.step([Run("echo quick"), slow, Run("true")])
    assert observation in vector.observation_space
    assert "error: the step took longer than the deadline of 5 s" in observation["text"][1]
    assert observation["text"][0].startswith("quick")
    assert truncated.tolist() == [False, True, False]
    assert not terminated.any()
    assert not rewards.any()
    assert infos["truncated_by"][1] == "deadline"
    assert infos["_truncated_by"].tolist() == [False, True, False]
    observation, _, _, truncated, infos = vector.step([Run("echo on")] * 3)
    assert [text.startswith("# A hidden line") for text in observation["text"]] == [False, True, False]
    assert not truncated.any()
    assert vector.envs[1] is not first
    vector.close()
    assert running("4321.71") == []
    assert first.record is not None
    footer = mlrcbench.read_record(first.record).footer
    assert footer is not None
    assert footer.ending == "truncated: deadline"


def test_a_failure_is_raised_and_the_vector_continues(vector: VectorEnv) -> None:
    """A failure of the infrastructure is an exception; the next step resets the environment."""
    episode = vector.envs[1]._keeper.require()
    episode.workbench.sandbox.interrupt()
    with pytest.raises(mlrcbench.SandboxError) as caught:
        vector.step([Submit(), Run("true"), Run("true")])
    assert caught.value.__notes__ == ["this was environment 1 of 3"]
    observation, *_ = vector.step([Run("true")] * 3)
    assert [text.startswith("# A hidden line") for text in observation["text"]] == [True, True, False]


@pytest.mark.parametrize("busy", [False, True])
def test_closing_leaves_nothing(tmp_path: Path, busy: bool) -> None:
    """No thread, process, folder or open file is left, even if steps are running."""
    with mlrcbench.make("_template", sandbox=SANDBOX, records=tmp_path) as env:  # starts the template
        env.reset()
        env.step(Run("true"))
    before = set(threading.enumerate())
    descriptors = len(os.listdir("/proc/self/fd"))
    vector = make(tmp_path, 4)
    vector.reset(seed=0)
    vector.step([StartJob("setsid sleep 4321.72 & sleep 4321.72")] * 4)
    folders = [env._keeper._folder.path for env in vector.envs]
    if busy:
        thread = threading.Thread(target=lambda: _quietly(lambda: vector.step([Run("sleep 4321.72")] * 4)))
        thread.start()
        while len(running("4321.72")) < 12:
            time.sleep(0.02)
        vector.close()
        thread.join()
    vector.close()
    assert running("4321.72") == []
    assert not any(folder.exists() for folder in folders)
    assert set(threading.enumerate()) <= before
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def _quietly(call: Callable[[], Any]) -> None:
    """Make a call that another thread will end."""
    with pytest.raises(mlrcbench.SandboxError):
        call()


def test_the_trainer_is_not_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The helper forks, so the size of the trainer does not matter."""

    def fork() -> int:
        raise AssertionError("the process was forked")

    monkeypatch.setattr(os, "fork", fork)
    vector = make(tmp_path, 2)
    vector.reset(seed=0)
    vector.step([Run("true")] * 2)
    vector.step([Submit()] * 2)
    vector.close()


def test_instances_are_built_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are built in the background, while the vector is used."""
    monkeypatch.setenv("MLRCBENCH_HOME", str(tmp_path))
    vector = make(tmp_path, 1, instances=5, ahead=2)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("instances/*/*/manifest.json"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    vector.close()
    assert len(list(tmp_path.glob("instances/*/*/manifest.json"))) == 5


def test_closing_ends_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build ends at once and leaves nothing; so does a reset that waits for it."""
    monkeypatch.setenv("MLRCBENCH_HOME", str(tmp_path))
    folder = copy_of_template(tmp_path)
    text = (folder / "data.py").read_text()
    (folder / "data.py").write_text(
        text.replace("    world =", "    import time; time.sleep(600)\n    world =")
    )
    vector = VectorEnv(Competition(folder), 2, sandbox=SANDBOX, records=tmp_path / "records", ahead=1)
    thread = threading.Thread(target=lambda: _quietly(vector.reset))
    thread.start()
    while not (list(tmp_path.glob("instances/*/.building-*")) and all(slot.doing for slot in vector._slots)):
        time.sleep(0.02)
    vector.close()
    thread.join()
    assert not list(tmp_path.glob("instances/*/.building-*"))


def test_batches_are_not_reused(vector: VectorEnv) -> None:
    """A step does not change what an earlier one returned."""
    first, *_ = vector.step([Run("echo 1")] * 3)
    steps_left = first["steps_left"].copy()
    vector.step([Run("echo 2")] * 3)
    assert np.array_equal(first["steps_left"], steps_left)
