"""Gymnasium's own vectors and wrappers, with their defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.utils import create_shared_memory, read_from_shared_memory, write_to_shared_memory
from gymnasium.wrappers import FlattenObservation
from hypothesis import given
from hypothesis import strategies as st

import mlrcbench
from mlrcbench import Run, Submit, VectorEnv
from mlrcbench.protocol.spaces import Unicode

ID = "mlrcbench/Template-v0"
TEXTS = ["", "\0", "a\0b\n", "\ud800 \udfff", "\U0010ffff" * 3, "é" * 50]


def make_env() -> gymnasium.Env[Any, Any]:
    """An environment, for the workers of a vector."""
    return gymnasium.make(ID, secret="public")


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.filterwarnings("ignore:This process")  # Python warns of forks beside threads
@pytest.mark.filterwarnings("ignore:.*the following error from Worker")  # the error itself follows
@pytest.mark.filterwarnings("ignore:.*Calling `close` while waiting")
def test_shared_memory(context: str, mode: AutoresetMode) -> None:
    """Each observation is the present one, in every way to start a process and to reset."""
    vector = AsyncVectorEnv([make_env] * 2, context=context, autoreset_mode=mode)
    try:
        first, _ = vector.reset(seed=0)
        assert all(text.startswith("# ") for text in first["text"])
        second, *_ = vector.step([Run("printf 'é %s' one"), Run("printf two")])
        assert [text.splitlines()[0] for text in second["text"]] == ["é one", "two"]
        assert first["text"][0].startswith("# ")
        assert second in vector.observation_space
        last, _, terminated, *_ = vector.step([Submit()] * 2)
        assert all(terminated)
        if mode is AutoresetMode.NEXT_STEP:
            assert not last["text"][0].startswith("# ")
            last, *_ = vector.step([Run("true")] * 2)
        assert all(text.startswith("# ") for text in last["text"])
        assert [path.name for path in vector.get_attr("record")] != []
    finally:
        vector.close()


@given(st.lists(st.text(st.characters(), max_size=60), min_size=3, max_size=3) | st.just(TEXTS[3:]))
def test_every_text_survives_shared_memory(texts: list[str]) -> None:
    """Code points are stored, so that each character can be stored."""
    space = Unicode(60)
    memory = create_shared_memory(space, n=3)
    batch = read_from_shared_memory(space, memory, n=3)
    for number, text in enumerate(texts):
        write: Any = write_to_shared_memory
        write(space, number, text, memory)
    assert list(batch) == texts
    assert len(memory) == 3 * 61


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_can_be_flattened(text: str) -> None:
    """It is contained in the flat space, and comes back."""
    space = Unicode(60)
    flat = gymnasium.spaces.flatten(space, text)
    assert flat in gymnasium.spaces.flatten_space(space)
    assert gymnasium.spaces.unflatten(space, flat) == text


def test_equal_spaces() -> None:
    """Workers compare spaces with those of the parent; a space of fewer characters is another one."""
    assert Unicode(5) == Unicode(5)
    assert Unicode(5) != Unicode(6)
    assert Unicode(5) != gymnasium.spaces.Text(5, min_length=0)
    assert "\0" in Unicode(5).character_set
    with pytest.raises(ValueError, match="mask"):
        Unicode(5).sample(mask=(2, None))


def test_flatten_observation() -> None:
    """Gymnasium's wrapper makes one array of an observation."""
    env = FlattenObservation(make_env())
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space
    assert observation.dtype == np.float64
    env.close()


def test_make_vec() -> None:
    """Our vector is what Gymnasium makes of the id; its own vectors are made on request."""
    for options, kind in (
        ({}, VectorEnv),
        ({"vectorization_mode": "vector_entry_point"}, VectorEnv),
        ({"vectorization_mode": "async"}, AsyncVectorEnv),
    ):
        vector = gymnasium.make_vec(ID, 2, secret="public", **options)  # type: ignore[arg-type]
        assert isinstance(vector, kind)
        observations, _ = vector.reset(seed=0)
        assert len(observations["text"]) == 2
        vector.close()


def test_attributes_of_the_environments(tmp_path: Path) -> None:
    """Methods are called, and attributes read and set, as Gymnasium's vectors do."""
    vector = VectorEnv("_template", 2, records=tmp_path)
    vector.reset(seed=0)
    assert all(record.parent == tmp_path for record in vector.get_attr("record"))
    assert [score.outcome for score in vector.call("evaluate", "dev")] == ["scored", "scored"]
    vector.set_attr("render_mode", "ansi")
    vector.set_attr("note", ["a", "b"])
    assert vector.get_attr("render_mode") == ("ansi", "ansi")
    assert vector.get_attr("note") == ("a", "b")
    with pytest.raises(ValueError, match="3 values were given for 2"):
        vector.set_attr("note", [1, 2, 3])
    with pytest.raises(AttributeError):
        vector.get_attr("missing")
    with pytest.raises(ValueError, match="of the vector instead"):
        vector.call("step", Run("true"))
    vector.close()


def test_order(tmp_path: Path) -> None:
    """A step needs a reset before, a partial reset a whole one, and nothing works after the end."""
    vector = VectorEnv("_template", 2, records=tmp_path)
    with pytest.raises(gymnasium.error.ResetNeeded):
        vector.step([Run("true")] * 2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        vector.reset(options={"reset_mask": np.array([True, False])})
    vector.reset(seed=0)
    vector.reset(options={"reset_mask": np.array([True, False])})
    vector.close()
    vector.close()
    with pytest.raises(gymnasium.error.ClosedEnvironmentError, match="closed"):
        vector.reset()
    with pytest.raises(gymnasium.error.ClosedEnvironmentError, match="closed"):
        vector.step([Run("true")] * 2)
    with pytest.raises(gymnasium.error.ClosedEnvironmentError, match="closed"):
        vector.get_attr("record")
    mlrcbench.make_vec("_template", 1, vectorization_mode="threads").close()  # without a reset
