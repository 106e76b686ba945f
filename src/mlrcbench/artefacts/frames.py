"""Messages of a played evaluation: one JSON object and any number of named arrays.

A frame is two lengths (header and body, unsigned 32-bit, little endian), the header as strict JSON, and
the arrays' bytes one after the other, in C order and little endian. The header's entry `arrays` gives each
array's dtype and shape. A frame comes from hostile code, so every length is compared with a limit before
memory is reserved, and every fault raises a `SubmissionError` that says what to send instead.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlrcbench.artefacts.collected import (
    JSON_DEPTH,
    depth_of,
    finite_float,
    parse_strictly,
    short_integer,
)
from mlrcbench.errors import SubmissionError, shown

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LENGTHS = struct.Struct("<II")
HEADER_BYTES = 1 << 16
MAX_ARRAYS = 64
_MAX_SIDES = 8
_ITEM_BYTES = {"<f4": 4, "<f8": 8, "<i4": 4, "<i8": 8, "|u1": 1, "|b1": 1}
_ARRAYS = "arrays"

Layout = dict[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class GameMessage:
    """One message, as it came from the other side.

    Attributes:
        fields: The JSON object, without the entry `arrays`.
        arrays: The arrays by name. Their numbers may be infinite or NaN; `array` refuses those.
    """

    fields: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def array(self, name: str, *, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        """An array of exactly this shape and dtype, whose numbers are finite.

        Raises:
            SubmissionError: There is no such array.
        """
        import numpy as np

        if name not in self.arrays:
            raise SubmissionError(f"the array {name!r} is missing; there is {sorted(self.arrays)[:5]}")
        array = self.arrays[name]
        if array.dtype.str != dtype or array.shape != shape:
            raise SubmissionError(
                f"the array {name!r} has dtype {array.dtype.str!r} and shape {array.shape}; "
                f"it must have {dtype!r} and {shape}"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise SubmissionError(f"the array {name!r} contains NaN or infinity; every number must be finite")
        return array

    def value(self, name: str, kind: type) -> Any:
        """An entry of the JSON object that has a type; a whole number is taken as a float, too.

        Raises:
            SubmissionError: There is no such entry.
        """
        value = self.fields.get(name)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise SubmissionError(f"the field {name!r} must be of type {kind.__name__}, not {shown(value)}")
        return value


def pack(fields: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[bytes, bytes]:
    """Header and body of a message that the trusted side sends.

    Raises:
        ValueError: An array has a dtype that messages do not carry, or the header is too long.
    """
    import numpy as np

    layout, parts = {}, []
    for name, value in arrays.items():
        array = np.ascontiguousarray(value)
        if array.dtype.str not in _ITEM_BYTES:
            raise ValueError(
                f"the array {name!r} has dtype {array.dtype.str!r}; take one of {[*_ITEM_BYTES]}"
            )
        layout[name] = [array.dtype.str, list(np.shape(value))]
        parts.append(array.tobytes())
    header = json.dumps({**fields, _ARRAYS: layout}, allow_nan=False).encode()
    if len(header) > HEADER_BYTES:
        raise ValueError(f"a header of {len(header)} bytes is too long; send long lists as arrays")
    return header, b"".join(parts)


def check_lengths(header: int, body: int, limit: int) -> None:
    """Raise unless the lengths of a frame are within their limits.

    Raises:
        SubmissionError: They are not.
    """
    if header > HEADER_BYTES:
        raise SubmissionError(f"its header has {header:,} bytes; at most {HEADER_BYTES:,} are allowed")
    if header + body > limit:
        raise SubmissionError(f"it has {header + body:,} bytes; at most {limit:,} are allowed")


def unpack(header: bytes, body: bytes) -> GameMessage:
    """The message of a frame, whose lengths have been checked.

    Raises:
        SubmissionError: The header is not strict JSON, or does not fit the body.
    """
    return assemble(*parse_header(header), body)


def assemble(fields: dict[str, Any], layout: Layout, body: bytes) -> GameMessage:
    """The message of a header that has been parsed, and of its body.

    Raises:
        SubmissionError: The body has another length than the layout needs.
    """
    total = sum(math.prod(shape) * _ITEM_BYTES[dtype] for dtype, shape in layout.values())
    if total != len(body):
        raise SubmissionError(f"its arrays need {total:,} bytes, and its body has {len(body):,}")
    return GameMessage(fields, _arrays(layout, body))


def parse_header(header: bytes) -> tuple[dict[str, Any], Layout]:
    """The JSON object of a header, and dtype and shape of each array.

    Raises:
        SubmissionError: It is not strict JSON, or its entry `arrays` is malformed.
    """
    if depth_of(header) > JSON_DEPTH:
        raise SubmissionError(f"its header nests deeper than {JSON_DEPTH} levels")
    try:
        fields = parse_strictly(header.decode("utf-8"), parse_float=finite_float, parse_int=short_integer)
    except (ValueError, RecursionError) as error:
        raise SubmissionError(f"its header is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise SubmissionError("its header is not a JSON object")
    entries = fields.pop(_ARRAYS, {})
    if not isinstance(entries, dict) or len(entries) > MAX_ARRAYS:
        raise SubmissionError(f"'arrays' must be an object of at most {MAX_ARRAYS} entries")
    return fields, {name: _entry(name, value) for name, value in entries.items()}


def _arrays(layout: Layout, body: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a body that has as many bytes as its layout needs; they cannot be written to."""
    import numpy as np

    arrays: dict[str, npt.NDArray[Any]] = {}
    start = 0
    for name, (dtype, shape) in layout.items():
        count = math.prod(shape)
        kind: np.dtype[Any] = np.dtype(dtype)
        array = np.frombuffer(body, np.uint8 if dtype == "|b1" else kind, count, start).reshape(shape)
        arrays[name] = array != 0 if dtype == "|b1" else array  # a byte other than 0 and 1 is not a boolean
        start += count * kind.itemsize
    return arrays


def _entry(name: str, value: Any) -> tuple[str, tuple[int, ...]]:
    fault = SubmissionError(
        f"the array {shown(name)} is given as {shown(value)}; it must be a dtype, one of "
        f"{', '.join(_ITEM_BYTES)}, and a shape of at most {_MAX_SIDES} sides"
    )
    if not isinstance(value, list) or len(value) != 2:
        raise fault
    dtype, sides = value
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES or not isinstance(sides, list):
        raise fault
    if len(sides) > _MAX_SIDES or not all(type(side) is int and 0 <= side < 1 << 32 for side in sides):
        raise fault
    return dtype, tuple(sides)
