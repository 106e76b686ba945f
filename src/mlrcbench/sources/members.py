"""The members of archives that may be hostile, read with bounded memory.

Python's own readers trust what an archive says about itself: they read a header, or a whole directory, of
any size into memory, keep every member, stop silently at a damaged header, and never look at the checksum
behind the last member. Here each of these is bounded or checked.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from mlrcbench.errors import DataError

_HEADER_BYTES = 4 << 20  # of one member, with its long name and its extensions
_DIRECTORY_BYTES = 64 << 20
_TRAILER_BYTES = 64 << 20
_CHUNK = 1 << 20
_BLOCK = bytes(512)
_COMPRESSIONS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}


def members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Name and content of each member of a zip or tar archive; a folder has no content.

    A content must be read to its end, in pieces, before the next member is asked for.

    Raises:
        DataError: A member is neither a file nor a folder.
        Exception: The archive is damaged; Python's readers raise exceptions of many classes.
    """
    return _zip_members(archive) if archive.name.endswith(".zip") else _tar_members(archive)


class _Stream:
    """A file of which a reader gets no more at once, and in all, than it is allowed.

    Args:
        file: The file.
        largest: The most bytes that may be read at once.
    """

    def __init__(self, file: IO[bytes], largest: int) -> None:
        self.last = b""
        self.allowance: int | None = None
        self._file = file
        self._largest = largest

    def read(self, size: int = -1) -> bytes:
        """Read bytes, and remember them if they are a block."""
        data = self._file.read(min(size, self._largest + 1) if size >= 0 else self._largest + 1)
        if len(data) > self._largest:
            raise ValueError(f"it has a header of more than {self._largest:,} bytes")
        if self.allowance is not None:
            self.allowance -= len(data)
            if self.allowance < 0:
                raise ValueError("a member has too large a header")
        self.last = data if len(data) <= len(_BLOCK) else b""
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See `io.IOBase.seek`."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """See `io.IOBase.tell`."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Whether `seek` works, which it does."""
        return True


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with archive.open("rb") as file:
        stream: Any = _Stream(file, _DIRECTORY_BYTES)
        with zipfile.ZipFile(stream) as zipped:
            for info in zipped.infolist():
                mode = info.external_attr >> 16
                if mode and (mode & 0o170000) not in (0, 0o100000, 0o040000):
                    raise DataError(f"{archive.name}: {info.filename!r} is neither a file nor a folder")
                if info.is_dir():
                    yield info.filename, None
                    continue
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    # Python undoes the others in one go, whatever memory that takes.
                    raise DataError(f"{archive.name} must be compressed by deflate; compress it again")
                with zipped.open(info) as reader:
                    yield info.filename, reader


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with contextlib.closing(_decompressed(archive)) as file:
        stream: Any = _Stream(file, _HEADER_BYTES)
        stream.allowance = _HEADER_BYTES
        tarred = tarfile.TarFile(fileobj=stream, mode="r")
        while (member := tarred.next()) is not None:
            if member.size < 0 or not (member.isdir() or member.isreg()):
                raise DataError(f"{archive.name}: {member.name!r} is neither a file nor a folder")
            stream.allowance = None
            yield member.name, tarred.extractfile(member)
            stream.allowance = _HEADER_BYTES
            tarred.members = []  # type: ignore[attr-defined]
            tarred.pax_headers = {}
        if stream.last != _BLOCK:
            raise ValueError("a header is damaged, or its end is missing")
        stream.allowance = _TRAILER_BYTES
        while data := stream.read(_CHUNK):  # to the end, where a compression has its checksum
            if data.strip(b"\0"):
                raise ValueError("it continues behind its end")


def _decompressed(archive: Path) -> IO[bytes]:
    with archive.open("rb") as file:
        head = file.read(6)
    opens = next((opens for magic, opens in _COMPRESSIONS.items() if head.startswith(magic)), open)
    file_: IO[bytes] = opens(archive, "rb")
    return file_
