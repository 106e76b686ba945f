"""Secrets: whole, long enough, and costly to guess."""

from __future__ import annotations

from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.catalog.installation import read_secret
from mlrcbench.errors import DataError


@pytest.mark.parametrize("content", [b"", b"\n", b" " * 40, b"x" * 31])
def test_a_damaged_secret_is_refused(content: bytes, fresh: Path) -> None:
    """A power cut may leave an empty file, from which anyone could build the instances."""
    fresh.mkdir()
    (fresh / "secret").write_bytes(content)
    with pytest.raises(DataError, match=r"secret of this installation.*damaged"):
        mlrcbench.get_competition("_template").instance(0)
    assert (fresh / "secret").read_bytes() == content


def test_a_secret_is_whole_or_not_there(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it cannot be brought to the disk, it gets no name."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        read_secret(None)
    assert list(fresh.iterdir()) == []


@pytest.mark.parametrize("secret", ["", " ", "\n", "short", "1234567", " sun \t\n   "])
def test_a_short_secret_is_refused(secret: str) -> None:
    """An agent could guess it, build the instance, and read the answers."""
    with pytest.raises(DataError, match="at least 8 characters"):
        read_secret(secret)


def test_a_guess_costs_time_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is stretched, and computed once in a process."""
    import hashlib

    calls = []
    real = hashlib.scrypt

    def scrypt(*arguments: object, **options: int) -> bytes:
        calls.append(128 * options["n"] * options["r"])
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "scrypt", scrypt)
    first = read_secret("a secret of this test")
    assert read_secret("a secret of this test") == first
    assert calls == [32 << 20]
    assert first[1] != b"a secret of this test"
    assert read_secret("another secret of this test")[1] != first[1]
