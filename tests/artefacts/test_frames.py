"""Messages of a played evaluation: what is taken, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlrcbench.artefacts.frames import HEADER_BYTES, GameMessage, check_lengths, pack, unpack
from mlrcbench.errors import SubmissionError

DTYPES = ("<f4", "<f8", "<i4", "<i8", "|u1", "|b1")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3)])
def test_an_array_comes_back(dtype: str, shape: tuple[int, ...]) -> None:
    """Its dtype, its shape and its numbers are the same."""
    array = (np.arange(int(np.prod(shape))) % 2).reshape(shape).astype(dtype)
    message = unpack(*pack({"round": 1}, {"x": array, "y": array}))
    assert message.fields == {"round": 1}
    for name in ("x", "y"):
        copy = message.array(name, shape=shape, dtype=dtype)
        assert (copy == array).all()
        assert (copy.dtype, copy.shape) == (array.dtype, shape)


def test_an_array_of_another_order_is_sent_in_c_order() -> None:
    """A transposed array arrives as it looks."""
    array = np.arange(6.0).reshape(2, 3).T
    assert (unpack(*pack({}, {"x": array})).array("x", shape=(3, 2), dtype="<f8") == array).all()


@pytest.mark.parametrize(
    "array", [np.array(["text"]), np.array([1j]), np.array([object()]), np.array([1], dtype=">i8")]
)
def test_the_trusted_side_sends_known_types_only(array: Any) -> None:
    """Anything else is a fault of the oracle."""
    with pytest.raises(ValueError, match="dtype"):
        pack({}, {"x": array})


HEADERS: list[tuple[str, bytes]] = [
    ("JSON", b""),
    ("JSON", b"{"),
    ("JSON", b"\xff"),
    ("JSON", b'{"a": NaN}'),
    ("JSON", b'{"a": 1e999}'),
    ("JSON", b'{"a": 1, "a": 2}'),
    ("JSON", b'{"a": "\\ud800"}'),
    ("JSON", b'{"a": ' + b"9" * 400 + b"}"),
    ("nests deeper", b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}"),
    ("not a JSON object", b"[1]"),
    ("not a JSON object", b"null"),
    ("'arrays' must be", b'{"arrays": [1]}'),
    ("'arrays' must be", json.dumps({"arrays": {str(n): ["<f8", [0]] for n in range(65)}}).encode()),
    *(
        ("it must be a dtype", json.dumps({"arrays": {"x": entry}}).encode())
        for entry in (
            None, 3, ["<f8"], ["<f8", 3], ["<f8", [-1]], ["<f8", [1.0]], ["<f8", [True]], ["<f8", [1 << 40]],
            ["|O", [1]], [">f8", [1]], [["<f8"], [1]], ["<f8", [1] * 9], ["<f8", [1], 0],
        )
    ),
    ("need 8 bytes", b'{"arrays": {"x": ["<f8", [1]]}}'),
    ("need 0 bytes", b'{"arrays": {"x": ["<f8", [0]]}}'),
    ("need 0 bytes", b"{}"),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "header"), HEADERS)
def test_what_is_refused(reason: str, header: bytes) -> None:
    """The text says what is wrong."""
    with pytest.raises(SubmissionError, match=reason):
        unpack(header, b"1234")


def test_a_huge_shape_reserves_nothing() -> None:
    """The product of its sides is compared with the body before memory is reserved."""
    header = json.dumps({"arrays": {"x": ["<f8", [1 << 31, 1 << 31, 1 << 31]]}}).encode()
    with pytest.raises(SubmissionError, match="need"):
        unpack(header, b"")


@pytest.mark.parametrize(("header", "body"), [(HEADER_BYTES + 1, 0), (10, 91), (1 << 31, 1 << 31)])
def test_lengths_are_bounded(header: int, body: int) -> None:
    """A length that is too large is refused before anything is read."""
    with pytest.raises(SubmissionError, match="at most"):
        check_lengths(header, body, 100)
    check_lengths(10, 90, 100)


def test_booleans_are_true_or_false() -> None:
    """A byte other than 0 and 1 makes no third truth value."""
    array = unpack(b'{"arrays": {"x": ["|b1", [3]]}}', b"\x00\x01\xff").array("x", shape=(3,), dtype="|b1")
    assert array.tolist() == [False, True, True]
    assert array.tobytes() == b"\x00\x01\x01"


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_asked_for_are_finite(number: float) -> None:
    """They may be sent, and are refused when the oracle takes them."""
    message = unpack(*pack({}, {"x": np.array([1.0, number])}))
    with pytest.raises(SubmissionError, match="NaN or infinity"):
        message.array("x", shape=(2,), dtype="<f8")


def test_an_array_must_be_as_asked() -> None:
    """Name, dtype and shape are compared."""
    message = unpack(*pack({}, {"x": np.zeros((2, 3))}))
    for name, shape, dtype in (("y", (2, 3), "<f8"), ("x", (3, 2), "<f8"), ("x", (2, 3), "<f4")):
        with pytest.raises(SubmissionError, match=f"'{name}'"):
            message.array(name, shape=shape, dtype=dtype)


def test_a_field_must_be_as_asked() -> None:
    """A whole number is a float, a truth value is not a number."""
    message = GameMessage({"n": 3, "b": True, "t": "text"})
    assert (message.value("n", int), message.value("t", str), message.value("b", bool)) == (3, "text", True)
    assert type(message.value("n", float)) is float
    for name, kind in (("b", int), ("b", float), ("t", int), ("missing", str), ("n", str)):
        with pytest.raises(SubmissionError, match=name):
            message.value(name, kind)


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_any_bytes_are_a_message_or_refused(header: bytes, body: bytes) -> None:
    """Nothing else can happen."""
    try:
        message = unpack(header, body)
    except SubmissionError:
        return
    assert isinstance(message.fields, dict)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_ENTRY = st.tuples(st.sampled_from([*DTYPES, "|O", ">f8"]), st.lists(st.integers(-1, 5), max_size=9)) | _JSON


@given(st.dictionaries(st.text(max_size=4), _JSON, max_size=3), st.dictionaries(st.text(max_size=3), _ENTRY))
def test_any_header_is_a_message_or_refused(fields: dict[str, Any], layout: dict[str, Any]) -> None:
    """Nothing else can happen, whatever the layout of the arrays says."""
    header = json.dumps({**fields, "arrays": layout}).encode()
    try:
        message = unpack(header, bytes(48))
    except SubmissionError:
        return
    assert sum(array.nbytes for array in message.arrays.values()) == 48
