"""Values that every program can read as JSON, made of whatever an agent wrote or left behind.

Python reads numbers of any length, lone surrogates and NaN from JSON, and writes them again; other
libraries refuse them, some in the middle of a connection, which ends the episode. So a server passes on only
what is plain, to the episode as well as to the client.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_DEPTH = 60
_DIGITS = 308  # as many as a float can have before the point


def plain(value: Any, depth: int = 0) -> Any:
    """A value with the same meaning, as far as JSON has it in all languages.

    What is no Unicode becomes a question mark, NaN and infinity become null, a number that is too long and
    what nests too deep become texts that say so, and objects of unknown types become their text.
    """
    if isinstance(value, Mapping | list | tuple) and depth == _DEPTH:
        return f"what nests deeper than {_DEPTH} levels"
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, depth + 1) for inner in value]
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, int):
        digits = int(value.bit_length() * math.log10(2))
        return int(value) if digits < _DIGITS else f"a number of about {digits} digits"
    return str(value).encode("utf-8", "replace").decode("utf-8")


def plain_text(text: str | bytes) -> str | None:
    """JSON text as plain JSON text; None if it is not JSON, or nests too deep to be read."""
    try:
        value = json.loads(text, parse_int=_whole, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return json.dumps(plain(value))


def _whole(digits: str) -> int | str:
    """A whole number; Python refuses to read very long ones."""
    return int(digits) if len(digits) <= _DIGITS else f"a number of {len(digits)} digits"
