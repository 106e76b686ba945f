"""Strict reading: values have the types of their fields, lie within bounds, and are never guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from mlrcbench.storage.strict import bounds, read_dataclass, to_json


@dataclass(frozen=True)
class Inner:
    """A dataclass within another."""

    name: str = field(metadata=bounds(pattern=re.compile("[a-z]+")))
    share: float = field(default=0.5, metadata=bounds(least=0.0))


@dataclass(frozen=True)
class Outer:
    """One field of each kind."""

    count: int
    kind: Literal["a", "b"]
    inner: Inner
    pair: tuple[float, str] | None
    many: tuple[Inner, ...] = ()
    table: Mapping[str, float] = field(default_factory=dict)
    flag: bool = False
    anything: Any = None


GOOD: dict[str, Any] = {
    "count": 3,
    "kind": "a",
    "inner": {"name": "x", "share": 0.25},
    "pair": [1, "one"],
    "many": [{"name": "y"}],
    "table": {"k": 2},
    "flag": True,
    "anything": [{}],
}


def test_a_dataclass_comes_back_as_it_went() -> None:
    """A dataclass is written as JSON types and read again; unknown keys are ignored."""
    value = read_dataclass(Outer, {**GOOD, "later": 1})
    assert value.many == (Inner("y"),)
    assert value.pair == (1.0, "one")
    assert read_dataclass(Outer, to_json(value)) == value


@pytest.mark.parametrize(
    "changes",
    [
        {"count": True},
        {"count": 1.0},
        {"count": -1},
        {"count": 10**400},
        {"kind": "c"},
        {"kind": ["a"]},
        {"inner": []},
        {"inner": {}},
        {"inner": {"name": "UPPER"}},
        {"inner": {"name": "x" * 10_000_001}},
        {"inner": {"name": "x", "share": -0.1}},
        {"inner": {"name": "x", "share": float("nan")}},
        {"inner": {"name": "x", "share": float("inf")}},
        {"inner": {"name": "x", "share": "0.5"}},
        {"inner": {"name": "x", "share": 10**400}},
        {"pair": [1]},
        {"pair": [1, "one", 2]},
        {"pair": {"0": 1}},
        {"many": "y"},
        {"many": [{"name": 1}]},
        {"table": [["k", 2]]},
        {"table": {"k": None}},
        {"flag": 1},
        {"flag": None},
    ],
    ids=str,
)
def test_what_is_not_of_its_type_is_refused(changes: dict[str, Any]) -> None:
    """A wrong value raises one of three errors, whatever the value is."""
    with pytest.raises((KeyError, TypeError, ValueError)):
        read_dataclass(Outer, {**GOOD, **changes})


def test_fields_without_a_default_must_be_there() -> None:
    """Fields with a default may be missing."""
    needed = {name: GOOD[name] for name in ("count", "kind", "inner", "pair")}
    assert read_dataclass(Outer, needed).table == {}
    for name in needed:
        with pytest.raises(KeyError, match=name):
            read_dataclass(Outer, {key: value for key, value in needed.items() if key != name})
