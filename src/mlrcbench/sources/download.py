"""One file over HTTP, resumed wherever it was broken off.

What has come lies in `NAME.part`, beside it the server's validator (ETag or date) in `NAME.part.tag`.
A later call asks for the rest, on the condition that the file is still the same (RFC 9110, sections
13.1.5 and 14.2); if it is not, or if the server cannot say, it begins anew. The final name appears
only when size and checksum are right.
"""

from __future__ import annotations

import http.client
import os
import random
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from mlrcbench.errors import DataError
from mlrcbench.files import hash_file

ATTEMPTS = 6  # in a row without a single byte more
_LONGEST_PAUSE = 60.0  # seconds
_SILENCE = 60.0  # seconds without a byte, after which a connection counts as broken
_CHUNK = 1 << 20
_FINAL = {400, 401, 403, 404, 405, 410, 451}  # asking again would not help


def download(
    url: str,
    target: Path,
    *,
    size: int = 0,
    sha256: str = "",
    on_bytes: Callable[[int, int], None] = lambda _have, _total: None,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Download a file, or what is missing of it.

    Args:
        url: http or https.
        target: Appears when all is there and right.
        size: Bytes it must have; 0 if it is not known.
        sha256: Checksum it must have, as hex; empty if it is not known.
        on_bytes: Called with the bytes that are there and their total, 0 if it is not known.
        pause: Waits some seconds between two attempts.

    Raises:
        DataError: The server refuses, breaks off again and again, or sends something else.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part, failures = target.with_name(f"{target.name}.part"), 0
    while True:
        before = _size(part)
        try:
            _continue(url, part, size, on_bytes)
            break
        except urllib.error.HTTPError as error:
            if error.code in _FINAL:
                raise DataError(f"{url} cannot be had: the server says {error.code} {error.reason}") from None
            reason = f"the server says {error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        failures = 0 if _size(part) > before else failures + 1
        if failures == ATTEMPTS:
            raise DataError(
                f"{url} broke off {ATTEMPTS} times at byte {_size(part):,}: {reason}. What came is kept: the "
                "same command goes on from there"
            )
        pause(min(_LONGEST_PAUSE, 2.0**failures) * random.uniform(0.5, 1.0))
    _accept(url, part, target, size, sha256)


def _continue(url: str, part: Path, size: int, on_bytes: Callable[[int, int], None]) -> None:
    """One request, from where the last one ended.

    Raises:
        OSError, http.client.HTTPException: It broke off; it may be tried again.
        DataError: More came than there should be.
    """
    tag = part.with_name(f"{part.name}.tag")
    have, validator = _size(part), tag.read_text("utf-8") if tag.exists() else ""
    headers = {"User-Agent": "mlrcbench", "Accept-Encoding": "identity"}
    if have and validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    with _open(urllib.request.Request(url, headers=headers), part) as answer:
        start, total = _span(answer)
        if start != have:
            if start:
                raise OSError(f"the server sent bytes from {start:,} on when asked from {have:,} on")
            have = 0
        tag.write_text(_validator(answer), "utf-8")
        with part.open("ab" if have else "wb", buffering=0) as file:  # what came is kept, whatever comes next
            while chunk := answer.read1(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                if have > (size or total or have):
                    raise DataError(f"{url} sends more than the {size or total:,} bytes it should have")
                on_bytes(have, size or total)
    if total and have < total:
        raise OSError("the connection ended early")


def _open(request: urllib.request.Request, part: Path) -> http.client.HTTPResponse:
    """The answer to a request; what was kept is dropped if the server finds nothing behind it."""
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_SILENCE)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
        raise
    return answer


def _validator(answer: http.client.HTTPResponse) -> str:
    """What a server calls this very file; empty if it has only a weak name, or none."""
    tag: str = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    return "" if tag.startswith("W/") else tag


def _span(answer: http.client.HTTPResponse) -> tuple[int, int]:
    """First byte and total size of an answer; 0 if it does not say."""
    if answer.status == http.client.PARTIAL_CONTENT:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if found is None:
            raise OSError("the server sent a part without saying which")
        return int(found[1]), 0 if found[2] == "*" else int(found[2])
    return 0, int(answer.headers.get("Content-Length") or 0)


def _accept(url: str, part: Path, target: Path, size: int, sha256: str) -> None:
    """Give the file its name if it is what it should be; else remove it."""
    found = _size(part)
    wrong = f"{found:,} bytes, not {size:,}" if size and found != size else ""
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
