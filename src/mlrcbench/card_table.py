"""Reading a card strictly: every entry is taken once, with its type, and none is left over."""

from __future__ import annotations

from typing import Any, TypeVar

from mlrcbench.errors import CardError, nearest

T = TypeVar("T")


class Table:
    """A TOML table from which entries are taken one by one, with their types."""

    def __init__(self, entries: dict[str, Any], where: str) -> None:
        self._entries = dict(entries)
        self._where = where

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The entry `key`; an integer will do for a float."""
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
        """A list of strings."""
        values = self.take(key, list, default)
        if not all(isinstance(value, str) for value in values):
            raise CardError(f"{self._where}: {key!r} must be a list of strings, not {values!r}")
        return tuple(values)

    def choice(self, key: str, options: tuple[str, ...]) -> Any:
        """A string out of a few."""
        value = self.take(key, str)
        if value not in options:
            raise CardError(f"{self._where}: {key!r} is {value!r}. {nearest(value, options)}")
        return value

    def table(self, key: str, default: dict[str, Any] | None = None) -> Table:
        """A table within this one."""
        return Table(self.take(key, dict, default), f"{self._where} [{key}]")

    def tables(self, key: str, default: list[dict[str, Any]] | None = None) -> list[Table]:
        """A list of tables."""
        return [Table(entry, f"{self._where} [[{key}]]") for entry in self.take(key, list, default)]

    def left(self) -> list[str]:
        """Names of what nobody took yet."""
        return list(self._entries)

    def done(self, *known: str) -> None:
        """Complain about entries that nobody took."""
        if self._entries:
            name = min(self._entries)
            raise CardError(f"{self._where}: the entry {name!r} is unknown. {nearest(name, known)}")
