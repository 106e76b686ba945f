"""What `make` and `reset` take: everything else is refused at once, in a sentence."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlrcbench
from mlrcbench.errors import CardError, RegistryError
from tests.env.test_research_env import make

_HUGE = 10**4999


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"instances": 3.0}, "whole number"),
        ({"instances": 0}, "empty"),
        ({"instances": -1}, "whole number"),
        ({"instances": True}, "whole number"),
        ({"instances": "3"}, "instances cannot be '3'"),
        ({"instances": ["a"]}, "not 'a'"),
        ({"instances": [1.5]}, "not 1.5"),
        ({"instances": [0, -1]}, "not -1"),
        ({"instances": [_HUGE]}, "very large"),
        ({"instances": _HUGE}, "very large"),
        ({"instances": {"a": 1}}, "instances cannot be"),
        ({"instances": None}, "whole number"),
        ({"clip": 1}, "clip must be two numbers"),
        ({"clip": (0, 1, 2)}, "clip must be two numbers"),
        ({"clip": "ab"}, "clip must be two numbers"),
        ({"clip": (None, 1)}, "clip must be two numbers"),
        ({"clip": (float("nan"), 1)}, "must include 0"),
        ({"secret": 3}, "a secret needs"),
        ({"secret": ""}, "a secret needs"),
        ({"secret": "\ud800"}, "a secret needs"),
        ({"sandbox": "docker"}, "sandbox cannot be 'docker'"),
        ({"sandbox": ["strong"]}, "sandbox cannot be"),
        ({"tier": 3}, "tier must be"),
        ({"reward": 3}, "unknown reward"),
        ({"final": None}, "final cannot be None"),
        ({"records": 3}, "records must be"),
    ],
    ids=range(26),
)
def test_a_wrong_option_is_refused_by_make(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    """With what was given, and not by a `TypeError` of a later call."""
    with pytest.raises(RegistryError, match=message):
        make(tmp_path, **options)


@pytest.mark.parametrize(
    "budget",
    [
        10,
        "steps=3",
        {"seconds": float("inf")},
        {"seconds": float("nan")},
        {"seconds": 1e-320},
        {"seconds": _HUGE},
        {"seconds": "60"},
        {"steps": 10**20},
        {"steps": 1.5},
        {"steps": True},
        {"steps": 0},
        {"evaluations": -1},
        {"evaluations": _HUGE},
        {"step": 3},
        {3: 3},
    ],
    ids=range(15),
)
def test_a_wrong_budget_is_refused_by_make(budget: Any, tmp_path: Path) -> None:
    """A budget is whole numbers and finite seconds, which JSON and numpy can hold."""
    with pytest.raises(CardError, match="budget"):
        make(tmp_path, budget=budget)


@pytest.mark.parametrize("competition", [3, None, ["_template"], "no-such"])
def test_a_competition_is_named(competition: Any) -> None:
    """By its id."""
    with pytest.raises(RegistryError, match="unknown competition"):
        mlrcbench.make(competition)


@pytest.mark.parametrize(
    "options",
    [
        3,
        "instance",
        ["instance"],
        {"instance": "x"},
        {"instance": 2.5},
        {"instance": None},
        {"instance": True},
        {"instance": -1},
        {"instance": _HUGE},
        {"instanc": 1},
        {3: 1},
    ],
    ids=range(11),
)
def test_wrong_options_of_a_reset_are_refused(options: Any, env: mlrcbench.ResearchEnv) -> None:
    """In a sentence, and the running episode continues."""
    with pytest.raises(RegistryError):
        env.reset(options=options)
    assert env.step("nonsense")[0]["steps_left"] == [19]


def test_a_pool_may_be_large_and_of_numpys_numbers(tmp_path: Path) -> None:
    """A pool of all seeds takes no memory."""
    with make(tmp_path, instances=2**63 - 1) as env:
        assert len(env.pool) == 2**63 - 1
    with make(tmp_path, instances=np.arange(2), budget={"steps": 7.0}) as env:
        _, info = env.reset(options={"instance": np.int64(1)})
        assert (info["instance"], env.budget.steps) == (1, 7)


def test_there_is_no_split_but_dev_and_test(env: mlrcbench.ResearchEnv) -> None:
    """A wrong name leaves the episode alone."""
    with pytest.raises(RegistryError, match="split 'train' does not exist"):
        env.evaluate("train")  # type: ignore[arg-type]
    assert env.evaluate("dev").valid


def test_an_environment_cannot_be_copied(tmp_path: Path) -> None:
    """A copy would share the folder, and its close would destroy the original's; a fork does not."""
    with make(tmp_path) as env:
        for _ in range(2):  # before a reset, and after it
            for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match=r"env\.fork\(\)"):
                    duplicate(env)
            env.reset(seed=0)


def test_a_snapshot_is_saved_and_not_pickled(env: mlrcbench.ResearchEnv) -> None:
    """It never changes, so that its copy is itself."""
    snapshot = env.snapshot()
    assert copy.copy(snapshot) is copy.deepcopy(snapshot) is snapshot
    with pytest.raises(TypeError, match="save"):
        pickle.dumps(snapshot)
