"""The transcript of a played evaluation."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlrcbench.artefacts.frames import pack
from mlrcbench.artefacts.transcript import TranscriptWriter, read_transcript
from mlrcbench.errors import SubmissionError

LARGE = np.arange(100.0)


def write(path: Path, max_bytes: int = 10_000) -> None:
    """A transcript with one entry of each kind; the arrays of the answer are too large to keep."""
    with closing(TranscriptWriter(path, keep_bytes=200, max_bytes=max_bytes)) as writer:
        writer.write("question", *pack({"round": 0}, {"x": np.arange(3)}))
        writer.write("answer", *pack({"text": "ä"}, {"y": LARGE}))
        writer.write("note", *pack({"value": 1.5}, {}))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Kinds, fields and arrays come back; of arrays that are too large, their SHA-256."""
    write(tmp_path / "transcript")
    question, answer, note = read_transcript(tmp_path / "transcript")
    assert (question.kind, answer.kind, note.kind) == ("question", "answer", "note")
    assert question.message.array("x", shape=(3,), dtype="<i8").tolist() == [0, 1, 2]
    assert answer.message.fields == {"text": "ä"}
    assert (answer.message.arrays, answer.layout) == ({}, {"y": ("<f8", (100,))})
    assert answer.digest == hashlib.sha256(LARGE.tobytes()).hexdigest()
    assert (note.message.fields, note.digest, question.digest) == ({"value": 1.5}, "", "")


def test_its_size_is_bounded(tmp_path: Path) -> None:
    """An oracle that writes more than its card allows fails."""
    with pytest.raises(ValueError, match="larger than its card allows"):
        write(tmp_path / "transcript", max_bytes=100)


def test_a_damaged_transcript_is_refused(tmp_path: Path) -> None:
    """Wherever it is cut, the entry that is damaged is named, or it ends after a whole entry."""
    path = tmp_path / "transcript"
    write(path)
    data = path.read_bytes()
    whole = 0
    for size in range(len(data)):
        path.write_bytes(data[:size])
        try:
            entries = len(list(read_transcript(path)))
        except SubmissionError as error:
            assert "of the transcript is damaged" in str(error)
        else:
            whole += 1
            assert entries < 3
    assert whole == 3  # of none, one and two entries


@given(st.binary(max_size=120))
def test_any_bytes_are_a_transcript_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Nothing else can happen."""
    path = tmp_path_factory.getbasetemp() / "any-transcript"
    for prefix in (b"", b"Q\x02\x00\x00\x00\x00\x00\x00\x00{}a\x02\x00\x00\x00\xff\x00\x00\x00"):
        path.write_bytes(prefix + data)
        try:
            for entry in read_transcript(path):
                assert entry.kind in ("question", "answer", "note")
        except SubmissionError:
            pass
