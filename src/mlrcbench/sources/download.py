"""Downloading one file over HTTP, and resuming it where it was interrupted.

The bytes received so far lie in `NAME.part`, and the server's validator (ETag or date) in
`NAME.part.tag`. A later call asks for the rest on the condition that the file is still the same
(RFC 9110, sections 13.1.5 and 14.2); if it is not, or if the server cannot say, it begins again. The
file gets its final name only when size and checksum are right.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from mlrcbench.errors import DataError
from mlrcbench.sources.archives import check_space
from mlrcbench.storage.trees import hash_file

ATTEMPTS = 6  # in a row that bring not a single byte
_LONGEST_PAUSE = 60.0  # seconds
_SILENCE = 60.0  # seconds without a byte, after which a connection counts as broken
_CHUNK = 1 << 20
_RESERVE = 64 << 20  # bytes that a download leaves on the disk
_FINAL_STATUS = {400, 401, 403, 404, 405, 410, 451}  # asking again would not help


def download(
    url: str,
    target: Path,
    *,
    size: int = 0,
    sha256: str = "",
    max_bytes: int = 0,
    on_bytes: Callable[[int, int], None] = lambda _have, _total: None,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Download a file, or the part of it that is missing.

    Args:
        url: An http or https URL.
        target: Path of the file, which appears when it is complete and right.
        size: Size in bytes that the file must have; 0 if it is not known.
        sha256: Checksum that the file must have, as hex; empty if it is not known.
        max_bytes: Largest size of a file whose size is not known; 0 for as much as the disk holds.
        on_bytes: Called with the number of bytes received and their total, 0 if it is not known.
        pause: Waits some seconds between two attempts.

    Raises:
        DataError: The server refuses, breaks off again and again, or sends another file or too large a one,
            or the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part, failures = target.with_name(f"{target.name}.part"), 0
    while True:
        before = _size(part)
        try:
            _continue(url, part, size, max_bytes, on_bytes)
            break
        except urllib.error.HTTPError as error:
            if error.code in _FINAL_STATUS:
                raise DataError(
                    f"{url} cannot be downloaded: the server says {error.code} {error.reason}"
                ) from None
            reason = f"the server says {error.code} {error.reason}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        failures = 0 if _size(part) > before else failures + 1
        if failures == ATTEMPTS:
            raise DataError(
                f"{url} broke off {ATTEMPTS} times at byte {_size(part):,}: {reason}. What came is kept: the "
                "same command continues from there"
            )
        pause(min(_LONGEST_PAUSE, 2.0**failures) * random.uniform(0.5, 1.0))
    _accept(url, part, target, size, sha256)


def _continue(url: str, part: Path, size: int, max_bytes: int, on_bytes: Callable[[int, int], None]) -> None:
    """Make one request for the bytes that are missing.

    Raises:
        OSError, http.client.HTTPException, ValueError: The connection broke off, or the answer makes no
            sense; another try may help.
        DataError: The server sends more bytes than the file should have, or than the disk can hold.
    """
    tag = part.with_name(f"{part.name}.tag")
    have, validator = _size(part), tag.read_text("utf-8", "replace") if tag.exists() else ""
    headers = {"User-Agent": "mlrcbench", "Accept-Encoding": "identity"}
    if have and validator.isascii() and validator.isprintable():
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    with _open(urllib.request.Request(url, headers=headers), part) as answer:
        start, total = _span(answer)
        if start != have:
            if start:
                raise OSError(
                    f"the server sent bytes from {start:,} on when asked for those from {have:,} on"
                )
            have = 0
        limit = size or min(filter(None, (total, max_bytes)), default=0)
        if limit and total > limit:
            raise DataError(
                f"{url} has {total:,} bytes, more than the {limit:,} bytes that its card allows for"
            )
        with _local(part):
            tag.write_text(_validator(answer), "utf-8")
            file = part.open("ab" if have else "wb", buffering=0)  # each chunk is on disk at once
        with file:
            while chunk := answer.read1(_CHUNK):
                have += len(chunk)
                if limit and have > limit:
                    file.truncate(0)
                    raise DataError(f"{url} sends more than the {limit:,} bytes it should have")
                with _local(part):
                    check_space(part.parent, _RESERVE, f"the download of {url}")
                    file.write(chunk)
                on_bytes(have, size or total)
    if total and have < total:
        raise OSError("the connection ended early")


def _open(request: urllib.request.Request, part: Path) -> http.client.HTTPResponse:
    """The answer to a request; if the server has no bytes after the part, the part is removed."""
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_SILENCE)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
        raise
    return answer


def _validator(answer: http.client.HTTPResponse) -> str:
    """The server's name for this version of the file; empty if it has only a weak one, or none."""
    tag: str = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    return "" if tag.startswith("W/") else tag


def _span(answer: http.client.HTTPResponse) -> tuple[int, int]:
    """First byte and total size of an answer, each 0 if the answer does not say."""
    if answer.status == http.client.PARTIAL_CONTENT:
        match = re.fullmatch(r"bytes (\d{1,18})-\d+/(\d{1,18}|\*)", answer.headers.get("Content-Range", ""))
        if match is None:
            raise OSError("the server sent a part without saying which")
        return int(match[1]), 0 if match[2] == "*" else int(match[2])
    length = answer.headers.get("Content-Length") or ""
    return 0, int(length) if re.fullmatch(r"\d{1,18}", length) else 0


@contextlib.contextmanager
def _local(part: Path) -> Iterator[None]:
    """Tell failures of this machine's disk from those of the connection: another try does not help."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{part} cannot be written: {error.strerror}") from error


def _accept(url: str, part: Path, target: Path, size: int, sha256: str) -> None:
    """Give the file its name if size and checksum are right; otherwise remove it."""
    received = _size(part)
    wrong = f"{received:,} bytes, not {size:,}" if size and received != size else ""
    if not wrong and sha256 and (digest := hash_file(part)) != sha256:
        wrong = f"the checksum {digest}, not {sha256}"
    part.with_name(f"{part.name}.tag").unlink(missing_ok=True)
    if wrong:
        part.unlink()
        raise DataError(
            f"{url} has {wrong}: it is damaged, or no longer the file that the card describes; it was "
            "removed. Call again, or give a folder that holds it with --data"
        )
    os.replace(part, target)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
