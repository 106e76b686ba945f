"""Secrets in files: values that only this machine should know, and texts that look like keys."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Mapping
from typing import IO

from mlrcbench.catalog.installation import PUBLIC_SECRET, has_secret, read_secret

_CHUNK = 1 << 20
_OVERLAP = 4_096
_MIN_VALUE_CHARS = 12
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSPHRASE|CREDENTIAL", re.IGNORECASE)
_PATTERNS: Mapping[str, bytes] = {
    "a private key": rb"-----BEGIN (?:[A-Z]{2,12} ){0,3}PRIVATE KEY-----",
    "a key of a model's provider": rb"\b(?:sk-[\w-]{20,}|AIza[\w-]{35}|hf_[A-Za-z0-9]{30,})",
    "a token of a code host": rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{50,}|glpat-[\w-]{20})",
    "a key of a cloud": rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bxox[abprs]-[A-Za-z0-9-]{10,}",
}


class LeakCheck:
    """Looks for secrets in files.

    It knows this installation's secret, a user's own one, the values of this process's environment
    variables whose names sound secret, and the forms of usual keys.

    Args:
        own: The user's own secret of the instances, if the run had one.
    """

    def __init__(self, own: str | None = None) -> None:
        values = {"the secret of the instances": _secrets_of_instances(own)}
        for name, value in os.environ.items():
            if _SECRET_NAME.search(name) and len(value) >= _MIN_VALUE_CHARS:
                values[f"the value of the environment variable {name}"] = [os.fsencode(value)]
        self._values = values
        every = [re.escape(value) for needles in values.values() for value in needles]
        self._any = re.compile(b"|".join([*every, *_PATTERNS.values()]))

    def find(self, file: IO[bytes]) -> str | None:
        """What secret a file holds, in words; None otherwise. Reads to the end, or to the secret."""
        tail = b""
        while chunk := file.read(_CHUNK):
            text = tail + chunk
            if match := self._any.search(text):
                return self._name(match[0])
            tail = text[-_OVERLAP:]
        return None

    def _name(self, secret: bytes) -> str:
        names = (name for name, needles in self._values.items() if secret in needles)
        kinds = (kind for kind, pattern in _PATTERNS.items() if re.fullmatch(pattern, secret))
        return next(names, None) or next(kinds, "a secret")


def _secrets_of_instances(own: str | None) -> list[bytes]:
    """The secrets from which this user's instances are made, in the forms in which a file may hold them."""
    secrets: list[bytes] = []
    if has_secret():
        secrets += _forms(read_secret(None)[1])
    if own is not None and own != PUBLIC_SECRET:
        secrets += [own.encode("utf-8", "surrogatepass"), *_forms(read_secret(own)[1])]
    return secrets


def _forms(secret: bytes) -> Iterable[bytes]:
    return secret, secret.hex().encode(), base64.b64encode(secret)
