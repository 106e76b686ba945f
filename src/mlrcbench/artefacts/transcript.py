"""The transcript of a played evaluation: everything that passed, as the trusted side wrote it down.

It is one file of entries: a letter for the kind (`Q`, a question of the oracle; `A`, an answer of the agent;
`N`, a note of the oracle to the scorer), then a frame as on the wire. If the letter is a small one, the
arrays were too large to keep, and their SHA-256 stands in place of the body. Times are not in it.

The scorer reads nothing else, so that a record can be scored again without playing again. A transcript from
a foreign record is hostile like any other artefact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from mlrcbench.artefacts.frames import LENGTHS, GameMessage, Layout, assemble, check_lengths, parse_header
from mlrcbench.errors import SubmissionError

TRANSCRIPT = "transcript"  # its name among the artefacts
Kind = Literal["question", "answer", "note"]
_KINDS: Mapping[bytes, Kind] = {b"Q": "question", b"A": "answer", b"N": "note"}
_LETTERS = {kind: letter for letter, kind in _KINDS.items()}
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class TranscriptEntry:
    """One entry of a transcript.

    Attributes:
        kind: "question", "answer" or "note".
        message: Its fields and arrays; without the arrays if they were too large to keep.
        layout: Dtype and shape of each array by name, whether they were kept or not.
        digest: SHA-256 of the arrays' bytes, as hex, if they were too large to keep; otherwise empty.
    """

    kind: Kind
    message: GameMessage
    layout: Layout
    digest: str = ""


class TranscriptWriter:
    """Writes a transcript.

    Args:
        path: The new file.
        keep_bytes: Size of a message's arrays above which only their SHA-256 is kept.
        max_bytes: Size that the file may have.
    """

    def __init__(self, path: Path, *, keep_bytes: int, max_bytes: int) -> None:
        self._file = path.open("xb")
        self._keep_bytes = keep_bytes
        self._unused = max_bytes

    def write(self, kind: Kind, header: bytes, body: bytes) -> None:
        """Add an entry.

        Raises:
            ValueError: The file becomes too large.
        """
        letter, lengths = _LETTERS[kind], LENGTHS.pack(len(header), len(body))
        if len(body) > self._keep_bytes:
            letter, body = letter.lower(), hashlib.sha256(body).digest()
        self._unused -= len(letter) + len(lengths) + len(header) + len(body)
        if self._unused < 0:
            raise ValueError("the transcript becomes larger than its card allows")
        self._file.writelines((letter, lengths, header, body))

    def close(self) -> None:
        """Write everything to the file."""
        self._file.close()


def read_transcript(path: Path) -> Iterator[TranscriptEntry]:
    """The entries of a transcript, in order.

    Raises:
        SubmissionError: The file is not a transcript.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        number = 0
        while letter := file.read(1):
            number += 1
            try:
                yield _read(file, letter, size)
            except SubmissionError as error:
                raise SubmissionError(f"entry {number} of the transcript is damaged: {error}") from None


def _read(file: BinaryIO, letter: bytes, size: int) -> TranscriptEntry:
    lengths = file.read(LENGTHS.size)
    kind = _KINDS.get(letter.upper())
    if kind is None or len(lengths) < LENGTHS.size:
        raise SubmissionError("it does not begin as an entry does")
    header, body = LENGTHS.unpack(lengths)
    kept = letter.isupper()
    remaining = size - file.tell()
    check_lengths(header, body if kept else _DIGEST_BYTES, remaining)
    head = file.read(header)
    fields, layout = parse_header(head)
    if kept:
        return TranscriptEntry(kind, assemble(fields, layout, file.read(body)), layout)
    return TranscriptEntry(kind, GameMessage(fields), layout, file.read(_DIGEST_BYTES).hex())
