"""Strict reading of files and data that may be wrong or hostile.

`Table` takes the entries of a TOML table one by one, each with its type, and refuses entries that are
left over. `read_dataclass` reads a JSON object by the types of a dataclass's fields, and
`to_json` writes one; `open_regular` opens a file, and `parse_object` reads the text of a JSON object; the
other functions check one value of a JSON document each.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import re
import stat
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from mlrcbench.errors import CardError, nearest
from mlrcbench.storage.descriptors import READ_FILE

T = TypeVar("T")

MAX_TEXT_CHARS = 10_000_000
MAX_INTEGER = 2**63 - 1
# A value takes up to a hundred bytes of memory, and may take two bytes of the text.
MAX_VALUES = 2_000_000
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


class Table:
    """A TOML table from which entries are taken one by one, each with its type."""

    def __init__(self, entries: dict[str, Any], where: str) -> None:
        self._entries = dict(entries)
        self._where = where

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The entry `key`; an integer is accepted as a float."""
        if key not in self._entries:
            if default is not None:
                return default
            raise CardError(f"{self._where}: the entry {key!r} is missing")
        value = self._entries.pop(key)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise CardError(f"{self._where}: {key!r} must be a {kind.__name__}, not {value!r}")
        return value

    def names(self, key: str, default: list[str] | None = None) -> tuple[str, ...]:
        """The entry `key`, a list of strings."""
        values = self.take(key, list, default)
        if not all(isinstance(value, str) for value in values):
            raise CardError(f"{self._where}: {key!r} must be a list of strings, not {values!r}")
        return tuple(values)

    def choice(self, key: str, options: tuple[str, ...]) -> Any:
        """The entry `key`, a string that is one of `options`."""
        value = self.take(key, str)
        if value not in options:
            raise CardError(f"{self._where}: {key!r} is {value!r}. {nearest(value, options)}")
        return value

    def table(self, key: str, default: dict[str, Any] | None = None) -> Table:
        """The entry `key`, a table."""
        return Table(self.take(key, dict, default), f"{self._where} [{key}]")

    def tables(self, key: str, default: list[dict[str, Any]] | None = None) -> list[Table]:
        """The entry `key`, a list of tables."""
        return [Table(entry, f"{self._where} [[{key}]]") for entry in self.take(key, list, default)]

    def left(self) -> list[str]:
        """Names of the entries that were not taken."""
        return list(self._entries)

    def done(self, *known: str) -> None:
        """Raise a `CardError` if an entry was not taken."""
        if self._entries:
            name = min(self._entries)
            raise CardError(f"{self._where}: the entry {name!r} is unknown. {nearest(name, known)}")


def open_regular(path: Path, max_bytes: int) -> IO[bytes]:
    """Open a regular file of bounded size for reading; a link is not followed, a pipe is not waited for.

    Raises:
        OSError: The file cannot be opened.
        ValueError: It is not a regular file, or is too large.
    """
    descriptor = os.open(path, READ_FILE)
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("it is not a regular file")
        if info.st_size > max_bytes:
            raise ValueError(f"it has {info.st_size:,} bytes; at most {max_bytes:,} are read")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def is_real_folder(root: Path, *parts: str) -> bool:
    """Whether a path below `root` is a folder, and no part of it a link."""
    paths = [root.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
    try:
        return all(stat.S_ISDIR(path.lstat().st_mode) for path in paths)
    except OSError:
        return False


def parse_object(text: bytes, max_values: int = MAX_VALUES) -> dict[str, Any]:
    """A JSON object from its text, which may hold only a number of values, and only finite numbers.

    Raises:
        ValueError: The text is not such an object.
    """
    if _count_values(text) > max_values and _count_values(_STRING.sub(b"", text)) > max_values:
        raise ValueError(f"it has more than {max_values:,} values")
    try:
        value = json.loads(text, parse_constant=reject_constant, parse_float=_finite)
        return json_object(value)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except TypeError as error:
        raise ValueError(str(error)) from None


def _count_values(text: bytes) -> int:
    """At least the number of values in a JSON text."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def json_object(value: Any) -> dict[str, Any]:
    """The value, which must be a JSON object.

    Raises:
        TypeError: The value is not an object.
    """
    if not isinstance(value, dict):
        raise TypeError("an object is expected")
    return value


def json_list(value: Any) -> list[Any]:
    """The value, which must be a JSON array.

    Raises:
        TypeError: The value is not an array.
    """
    if not isinstance(value, list):
        raise TypeError("a list is expected")
    return value


def json_text(value: Any, pattern: re.Pattern[str] | None = None) -> str:
    """The value, which must be a string of bounded length that matches the whole pattern, if there is one.

    Raises:
        TypeError: The value is not a string, or is too long.
        ValueError: The string does not match.
    """
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARS:
        raise TypeError(f"a text of at most {MAX_TEXT_CHARS:,} characters is expected")
    if pattern is not None and pattern.fullmatch(value) is None:
        raise ValueError(f"{value[:100]!r} is not a valid text here")
    return value


def json_integer(value: Any, *, least: int = 0, most: int = MAX_INTEGER) -> int:
    """The value, which must be a whole number within bounds; booleans are refused.

    Raises:
        ValueError: The value is not such a number.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"a whole number from {least} to {most} is expected")
    return value


def json_number(value: Any, *, least: float = -math.inf) -> float:
    """The value as a float; it must be a finite number of at least `least`, and not a boolean.

    Raises:
        ValueError: The value is not such a number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number is expected")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError("a number is too large") from None
    if not (math.isfinite(number) and number >= least):
        raise ValueError(f"a finite number of at least {least} is expected")
    return number


def reject_constant(name: str) -> NoReturn:
    """For `json.loads(parse_constant=...)`: refuse NaN and infinities."""
    raise ValueError(f"{name} is not a number that JSON has")


def json_boolean(value: Any) -> bool:
    """The value, which must be true or false.

    Raises:
        TypeError: The value is neither.
    """
    if not isinstance(value, bool):
        raise TypeError("true or false is expected")
    return value


def bounds(
    *, least: float = 0, most: int = MAX_INTEGER, pattern: re.Pattern[str] | None = None
) -> Mapping[str, Any]:
    """Metadata of a dataclass's field: what `read_dataclass` requires of its numbers and strings.

    Args:
        least: Smallest number.
        most: Largest whole number.
        pattern: Pattern that a whole string must match.
    """
    return {"least": least, "most": most, "pattern": pattern}


def read_dataclass(cls: type[T], data: Any) -> T:
    """A dataclass from a JSON object, field by field, each by its type; unknown keys are ignored.

    Types may be `str`, `int`, `float`, `bool`, `Any`, other dataclasses, and tuples, mappings, literals
    and optional values of these.

    Raises:
        KeyError: A field without a default is missing.
        TypeError, ValueError: A value is not of its field's type, or is out of its bounds.
    """
    entries, values = json_object(data), {}
    hints: dict[str, Any] = _type_hints(cls)  # type: ignore[arg-type]
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in entries:
            values[field.name] = _read_value(hints[field.name], entries[field.name], field.metadata)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise KeyError(field.name)
    return cls(**values)


@functools.cache
def _type_hints(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls)


def _read_value(kind: Any, value: Any, limits: Mapping[str, Any]) -> Any:
    """One value of a type; see `read_dataclass`."""
    if get_origin(kind) is not None:
        return _read_generic(kind, value, limits)
    readers: Mapping[Any, Callable[[], Any]] = {
        Any: lambda: value,
        bool: lambda: json_boolean(value),
        str: lambda: json_text(value, limits.get("pattern")),
        int: lambda: json_integer(value, least=limits.get("least", 0), most=limits.get("most", MAX_INTEGER)),
        float: lambda: json_number(value, least=limits.get("least", -math.inf)),
    }
    return readers[kind]() if kind in readers else read_dataclass(kind, value)


def _read_generic(kind: Any, value: Any, limits: Mapping[str, Any]) -> Any:
    """One value of an optional type, a literal, a tuple, or a mapping from strings."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else _read_value(inner, value, limits)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{str(value)[:100]!r} is not one of {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        items = json_list(value)
        kinds = [arguments[0]] * len(items) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(items):
            raise ValueError(f"a list of {len(kinds)} is expected")
        return tuple(_read_value(inner, item, limits) for inner, item in zip(kinds, items, strict=True))
    return {
        json_text(key): _read_value(arguments[1], item, limits) for key, item in json_object(value).items()
    }


def to_json(value: Any) -> Any:
    """A dataclass as a JSON object that `read_dataclass` can read; mappings become dicts, unchanged."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value
