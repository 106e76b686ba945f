"""The Gymnasium spaces that really contain what `reset`, `step` and agents exchange.

Texts may lie in memory that processes share, as in Gymnasium's `AsyncVectorEnv`. Gymnasium reads a batch from
there once and expects it to change with the memory, as arrays do. Its own batch of texts does not, so that
there is one here that does: `SharedTexts`.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector.utils import create_shared_memory, read_from_shared_memory, write_to_shared_memory
from typing_extensions import override

from mlrcbench.catalog.limits import Budget
from mlrcbench.protocol.actions import MAX_JSON_CHARS, ReadFile, Run, StartJob, WriteFile, is_action, to_json
from mlrcbench.protocol.observation import MAX_ASIDE_CHARS
from mlrcbench.text import MAX_CHARS

_PRINTABLE = [chr(code) for code in range(32, 127)]
# Room for the status line, and for the note where a text was cut, in addition to a body.
_STATUS_CHARS = 1_000
_ENCODING = ("utf-32-le", "surrogatepass")
_CODE = np.dtype("<i4")


class _AllCharacters(Sequence[str]):
    """The characters of Python's strings in the order of their numbers, without a table of them."""

    @override
    def __len__(self) -> int:
        return sys.maxunicode + 1

    @override
    def __getitem__(self, index: Any) -> Any:
        """The character of a number."""
        return chr(range(len(self))[index])

    @override
    def __contains__(self, x: object) -> bool:
        return isinstance(x, str) and len(x) == 1

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, _AllCharacters)

    @override
    def __hash__(self) -> int:
        return hash(_AllCharacters)


class Unicode(spaces.Text):
    """The space of all strings up to a length; samples are printable ASCII.

    Flattened, a text is its code points, filled up with 0x110000, the first number beyond them:
    (max_length,) int32.
    """

    def __init__(self, max_length: int, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(max_length, min_length=0, charset="", seed=seed)

    @property
    @override
    def character_set(self) -> Any:
        """All characters, as a collection that is not stored anywhere."""
        return _AllCharacters()

    @property
    @override
    def character_list(self) -> Any:
        """All characters by code point."""
        return _AllCharacters()

    @override
    def character_index(self, char: str) -> np.int32:
        """The code point of a character."""
        return np.int32(ord(char))

    @property
    @override
    def characters(self) -> Any:
        """All characters in order."""
        return _AllCharacters()

    @override
    def contains(self, x: Any) -> bool:
        """Whether `x` is a string of at most that length."""
        return isinstance(x, str) and len(x) <= self.max_length

    @override
    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """A text of printable ASCII, whose length is uniform; masks are refused."""
        if mask is not None or probability is not None:
            raise ValueError("texts cannot be sampled under a mask")
        length = int(self.np_random.integers(self.max_length + 1))
        return "".join(self.np_random.choice(_PRINTABLE, size=length))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.max_length})"


class SharedTexts(Sequence[str]):
    """The texts in a piece of shared memory, as they are at the moment of reading.

    By default `AsyncVectorEnv` returns a deep copy of them, which is a tuple of strings.

    Args:
        rows: For each text, its length and its code points: (number of texts, 1 + max_length) int32.
    """

    def __init__(self, rows: npt.NDArray[np.int32]) -> None:
        self._rows = rows

    @override
    def __len__(self) -> int:
        return len(self._rows)

    @override
    def __getitem__(self, index: Any) -> Any:
        """One text."""
        row = self._rows[index]
        return row[1 : 1 + row[0]].tobytes().decode(*_ENCODING)

    def __deepcopy__(self, memo: Mapping[int, Any]) -> tuple[str, ...]:
        """The present texts."""
        return tuple(self)


@create_shared_memory.register(Unicode)
def _create(space: Unicode, n: int = 1, ctx: Any = multiprocessing) -> Any:
    return ctx.Array(_CODE.char, n * (1 + space.max_length))


@read_from_shared_memory.register(Unicode)
def _read(space: Unicode, shared_memory: Any, n: int = 1) -> SharedTexts:
    return SharedTexts(np.frombuffer(shared_memory.get_obj(), _CODE).reshape(n, 1 + space.max_length))


@write_to_shared_memory.register(Unicode)
def _write(space: Unicode, index: int, values: str, shared_memory: Any) -> None:
    codes = np.frombuffer(values.encode(*_ENCODING), _CODE)
    row = np.frombuffer(shared_memory.get_obj(), _CODE).reshape(-1, 1 + space.max_length)[index]
    row[0], row[1 : 1 + len(codes)] = len(codes), codes


class ActionText(Unicode):
    """What `step` takes: text, which should be an action's JSON form; or an action itself.

    Any text is a legal action, because an agent may write anything: the answer to a text that is not
    an action says so. `sample` draws harmless actions that can be executed.
    """

    @override
    def contains(self, x: Any) -> bool:
        """Whether `step` accepts `x`."""
        return super().contains(x) or isinstance(x, Mapping) or is_action(x)

    @override
    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """The JSON text of an action that changes nothing but a scratch file; masks are refused.

        Actions on a job are not drawn, because they need a job that exists.
        """
        if mask is not None or probability is not None:
            raise ValueError("actions cannot be sampled under a mask")
        number = int(self.np_random.integers(1000))
        harmless = (
            Run(f"echo {number}"),
            ReadFile("statement.md", start=1, end=1 + number % 20),
            WriteFile("scratch.txt", f"{number}\n"),
            StartJob(f"echo {number}"),
        )
        return json.dumps(to_json(harmless[int(self.np_random.integers(len(harmless)))]))


def observation_space(budget: Budget, best_possible: float) -> spaces.Dict:
    """The space of `Observation.to_space`.

    Args:
        budget: The budget of an episode.
        best_possible: Relative improvement of a perfect score on dev.
    """
    return spaces.Dict(
        {
            "text": Unicode(MAX_CHARS + MAX_ASIDE_CHARS + _STATUS_CHARS),
            "steps_left": spaces.Box(0, budget.steps, (1,), np.int64),
            "evaluations_left": spaces.Box(0, budget.evaluations, (1,), np.int64),
            "seconds_left": spaces.Box(0.0, budget.seconds, (1,), np.float64),
            "best_improvement": spaces.Box(0.0, best_possible, (1,), np.float64),
        }
    )


def action_space() -> ActionText:
    """The space of actions."""
    return ActionText(MAX_JSON_CHARS)
