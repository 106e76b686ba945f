"""This installation's secret, and the folders that hold instances."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from mlrcbench.errors import DataError
from mlrcbench.sandbox.folders import home
from mlrcbench.storage.durable import scratch_beside, sync_folder

PUBLIC_SECRET = "public"
MIN_SECRET_CHARS = 8
_SECRET_BYTES = 32


def secret_fingerprint(own: str | None) -> str:
    """A value that is equal on two machines that build the same instances, and reveals no secret."""
    return hmac.digest(read_secret(own)[1], b"mlrcbench fingerprint", "sha256").hex()


def read_secret(own: str | None) -> tuple[str, bytes]:
    """Kind and bytes of the secret: the installation's own, the public one, or a user's text.

    Raises:
        DataError: The user's text is too short to be a secret, or the installation's secret is damaged.
    """
    if own == PUBLIC_SECRET:
        return "public", b"mlrcbench public secret"
    if own is None:
        return "installation", _installation_secret(home() / "secret")
    if reason := unfit_secret(own):
        raise DataError(reason)
    return "own", _stretched(own)


def unfit_secret(own: object) -> str:
    """Why a value cannot be a user's secret; empty if it can."""
    if isinstance(own, str) and (own == PUBLIC_SECRET or len(own.strip()) >= MIN_SECRET_CHARS):
        return ""
    return (
        f"a secret needs at least {MIN_SECRET_CHARS} characters, so that nobody can guess it; choose a "
        "random text, as secrets.token_hex() returns, or 'public' for instances that anyone can build"
    )


@functools.lru_cache(maxsize=8)
def _stretched(own: str) -> bytes:
    """A key from a user's text, which costs 32 MiB and a tenth of a second: agents can try few guesses."""
    salt = b"mlrcbench own secret"
    text = own.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(text, salt=salt, n=1 << 15, r=8, p=1, maxmem=64 << 20, dklen=_SECRET_BYTES)


def has_secret() -> bool:
    """Whether this installation has drawn its secret; without it, no instance was built from it."""
    return os.path.lexists(home() / "secret")


@functools.lru_cache(maxsize=8)
def _installation_secret(path: Path) -> bytes:
    """The secret of this installation, drawn at its first use and never changed."""
    if not path.exists():
        make_unlisted(path.parent)
        _draw_secret(path)
    secret = path.read_bytes()
    if len(secret) != _SECRET_BYTES:
        raise DataError(
            f"the secret of this installation, {path}, is damaged: it has {len(secret)} bytes, not "
            f"{_SECRET_BYTES}. Put a copy of it back, or remove it: another one is then drawn, "
            "and with it other instances"
        )
    return secret


def _draw_secret(path: Path) -> None:
    """Write a new secret, unless another process is faster; it is whole under its name, or not there."""
    with scratch_beside(path) as scratch:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(scratch, path)
    sync_folder(path.parent)


def make_unlisted(folder: Path) -> None:
    """Create a folder that other users can pass through, if they know a path below it, but cannot list.

    So are the folders above it that do not exist yet; the mode does not depend on the umask.

    Raises:
        OSError: The folder cannot be created.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process may be making it, too
            path.mkdir()
            path.chmod(0o711)
