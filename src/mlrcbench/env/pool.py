"""The pool of instances that `reset` draws from, and the choice of one."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlrcbench.errors import RegistryError, shown
from mlrcbench.storage.strict import MAX_INTEGER


def read_pool(instances: int | Iterable[int]) -> Sequence[int]:
    """The seeds of a pool.

    Args:
        instances: The number of seeds, counted from 0, or the seeds.

    Raises:
        RegistryError: The pool is empty, or something in it is not a seed.
    """
    hint = "give a number of instances, or their seeds, for example instances=3 or instances=[0, 4]"
    pool: Sequence[int]
    if isinstance(instances, str | bytes | Mapping):
        raise RegistryError(f"instances cannot be {shown(instances)}; {hint}")
    if isinstance(instances, Iterable):
        pool = tuple(read_seed(seed, "a seed in instances") for seed in instances)
    else:
        pool = range(read_seed(instances, "the number of instances"))
    if not pool:
        raise RegistryError(f"the pool of instances is empty; {hint}")
    return pool


def chosen_instance(options: Any) -> int | None:
    """The seed that the options of a reset name; None if they name none.

    Raises:
        RegistryError: The options are not an object, or have an unknown key or a wrong value.
    """
    if options is None:
        return None
    if not isinstance(options, Mapping):
        raise RegistryError(
            f'reset takes options as a dict, for example {{"instance": 3}}, not {shown(options)}'
        )
    unknown = sorted(str(name) for name in options if name != "instance")
    if unknown:
        raise RegistryError(f"reset has no option {unknown[0]!r}. Known: instance.")
    return read_seed(options["instance"], "the option 'instance'") if "instance" in options else None


def read_seed(value: Any, label: str) -> int:
    """A whole number that can be the seed of an instance.

    Args:
        value: What a caller gave.
        label: What it is, for the message.

    Raises:
        RegistryError: It is not a whole number from 0 to 2**63 - 1.
    """
    try:
        seed = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        seed = -1
    if not 0 <= seed <= MAX_INTEGER:
        raise RegistryError(f"{label} must be a whole number from 0 to 2**63 - 1, not {shown(value)}")
    return seed
