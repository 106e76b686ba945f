"""The numeric environment keeps Gymnasium's contract, and its choices are carried out."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import mlrcbench
from mlrcbench.integrations.menu import MenuEnv

MENU = (mlrcbench.WriteFile("a.txt", "1"), {"action": "evaluate"}, mlrcbench.Submit())


def _env() -> MenuEnv:
    return MenuEnv(mlrcbench.make("_template", sandbox="process", secret="public", budget={"steps": 3}), MENU)


def test_it_is_an_environment() -> None:
    """It passes Gymnasium's own checker, whose warnings are errors here."""
    env = _env()
    check_env(env, skip_render_check=True)
    env.close()


def test_features_say_what_was_done() -> None:
    """They are the shares left, the best improvement, the last choice; the reward is the competition's."""
    env = _env()
    features, _ = env.reset(seed=0)
    assert np.allclose(features, [1, 1, 0, 1, 0, 0, 0])
    features, *_ = env.step(0)
    assert np.allclose(features, [2 / 3, 1, 0, 0, 1, 0, 0])
    features, *_ = env.step(1)
    assert features[1] < 1
    assert features[3:].tolist() == [0, 0, 1, 0]
    features, reward, terminated, truncated, info = env.step(2)
    assert (terminated, truncated) == (True, False)
    assert reward == info["test_score"]["improvement"]
    env.close()


def test_an_empty_menu_is_refused() -> None:
    """The error names the shortest menu."""
    env = mlrcbench.make("_template")
    with pytest.raises(ValueError, match="the menu is empty"):
        MenuEnv(env, [])
    env.close()
