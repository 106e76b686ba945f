"""Artefacts: hostile files are refused before they cost anything, and honest files are read."""

from __future__ import annotations

import json
import os
import pickle
import resource
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mlrcbench.artefacts import (
    ArtefactSpec,
    collect,
    map_npy,
    read_json,
    read_npy,
    read_safetensors,
    safetensors_layout,
)
from mlrcbench.errors import SubmissionError

SPEC = ArtefactSpec("answer.npy", max_bytes=10_000)


def _npy_bytes(array: Any, tmp_path: Path) -> bytes:
    path = tmp_path / "made.npy"
    np.save(path, array)
    return path.read_bytes()


def _link(path: Path) -> None:
    (path.parent / "secret").write_bytes(b"labels")
    path.symlink_to(path.parent / "secret")


def _hard_link(path: Path) -> None:
    (path.parent / "secret").write_bytes(b"labels")
    os.link(path.parent / "secret", path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "link": (_link, "plain file"),
    "hard link": (_hard_link, "plain file of its own"),
    "pipe": (os.mkfifo, "plain file of its own"),
    "socket": (_socket, "plain file"),
    "sparse": (_sparse, "at most 10,000"),
    "folder": (lambda path: path.mkdir(), "plain file"),
    "missing": (lambda _: None, "is missing"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_collect_refuses_all_but_small_plain_files(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links, pipes, sockets, folders and sparse giants are refused with a reason, at once."""
    monkeypatch.chdir(tmp_path)
    make, message = HOSTILE[kind]
    (tmp_path / "artefacts").mkdir()
    make(tmp_path / "artefacts" / "answer.npy")
    with pytest.raises(SubmissionError, match=message):
        collect(tmp_path / "artefacts", tmp_path / "kept", [SPEC])


def test_collect_copies_only_what_is_declared(tmp_path: Path) -> None:
    """Declared files arrive byte for byte; others stay behind."""
    source = tmp_path / "artefacts"
    source.mkdir()
    (source / "answer.npy").write_bytes(b"12345")
    (source / "log.txt").write_text("anything")
    collect(source, tmp_path / "kept", [SPEC])
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["answer.npy"]
    assert (tmp_path / "kept" / "answer.npy").read_bytes() == b"12345"


def test_collect_bounds_how_many_files_match(tmp_path: Path) -> None:
    """One file more than declared is refused."""
    source = tmp_path / "artefacts"
    source.mkdir()
    for number in range(3):
        (source / f"model-{number}.bin").write_bytes(b"x")
    with pytest.raises(SubmissionError, match="3 files match"):
        collect(source, tmp_path / "kept", [ArtefactSpec("model-*.bin", 10, max_files=2)])


def test_collect_refuses_a_folder_that_became_a_link(tmp_path: Path) -> None:
    """The folder itself may not be a link either."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "artefacts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SubmissionError, match="artefacts/ is gone"):
        collect(tmp_path / "artefacts", tmp_path / "kept", [SPEC])


@given(st.sampled_from(["<f4", "<f8", "<i4", "<i8"]), st.lists(st.integers(0, 5), max_size=3))
def test_npy_is_read_as_saved(dtype: str, shape: list[int]) -> None:
    """Every dtype and shape comes back, also that of an empty array."""
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    path = Path(f"/tmp/mlrcbench-test-{os.getpid()}.npy")
    try:
        np.save(path, array)
        assert np.array_equal(read_npy(path, shape=tuple(shape), dtype=dtype), array)
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: np.zeros(4, "<f4"), "dtype '<f4'"),
        (lambda: np.zeros(3, "<f8"), r"shape \(3,\)"),
        (lambda: np.zeros((2, 2), "<f8", order="F"), "shape"),
        (lambda: np.array([1.0, 2.0, np.nan, 3.0]), "finite"),
        (lambda: np.array([1.0, 2.0, np.inf, 3.0]), "finite"),
        (lambda: np.array([{"a": 1}] * 4, dtype=object), "dtype"),
    ],
)
def test_npy_with_other_content_is_refused(make: Callable[[], Any], message: str, tmp_path: Path) -> None:
    """The error names what is wrong: dtype, shape, objects, NaN."""
    path = tmp_path / "answer.npy"
    np.save(path, make(), allow_pickle=True)
    with pytest.raises(SubmissionError, match=message):
        read_npy(path, shape=(4,), dtype="<f8")


def test_npy_that_lies_about_its_size_costs_nothing(tmp_path: Path) -> None:
    """A header that promises a terabyte is refused before memory is reserved."""
    honest = _npy_bytes(np.zeros(4), tmp_path)
    path = tmp_path / "answer.npy"
    path.write_bytes(honest.replace(b"(4,)", b"(99,)"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SubmissionError, match="shape"):
        read_npy(path, shape=(4,), dtype="<f8")
    path.write_bytes(honest[:-8])
    with pytest.raises(SubmissionError, match="holds 24 bytes"):
        read_npy(path, shape=(4,), dtype="<f8")
    path.write_bytes(honest.replace(b"(4,), }" + b" " * 12, b"(1099511627776,), }"))
    with pytest.raises(SubmissionError, match="needs 8796093022208"):
        read_npy(path, shape=(1 << 40,), dtype="<f8")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10


def test_a_mapped_npy_is_refused_for_the_same_reasons(tmp_path: Path) -> None:
    """Shape, dtype and length are checked, values are not; a mapped array cannot be written."""
    path = tmp_path / "answer.npy"
    np.save(path, np.array([1.0, np.nan, 3.0]))
    array = map_npy(path, shape=(3,), dtype="<f8")
    assert np.array_equal(array, [1.0, np.nan, 3.0], equal_nan=True)
    assert not array.flags.writeable
    for shape, dtype, message in (((4,), "<f8", "shape"), ((3,), "<f4", "dtype")):
        with pytest.raises(SubmissionError, match=message):
            map_npy(path, shape=shape, dtype=dtype)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(SubmissionError, match="holds 16 bytes"):
        map_npy(path, shape=(3,), dtype="<f8")


def test_npy_never_unpickles(tmp_path: Path) -> None:
    """A pickle in place of an array is not opened."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    path = tmp_path / "answer.npy"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(SubmissionError, match=r"not a .npy file"):
        read_npy(path, shape=(4,), dtype="<f8")
    assert not (tmp_path / "exploded").exists()


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_arbitrary_bytes_are_refused_by_every_reader(data: bytes) -> None:
    """A reader raises nothing but a `SubmissionError`, whatever the bytes."""
    path = Path(f"/tmp/mlrcbench-test-{os.getpid()}.bin")
    for prefix in (b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00", struct.pack("<Q", 2) + b"{}"):
        path.write_bytes(prefix + data)
        for read in (
            lambda: read_npy(path, shape=(4,), dtype="<f8"),
            lambda: map_npy(path, shape=(4,), dtype="<f8"),
            lambda: safetensors_layout(path),
            lambda: read_json(path),
        ):
            try:
                read()
            except SubmissionError as error:
                assert str(error)
    path.unlink()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not valid JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": 1e999}', "not a JSON number"),
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b"[" * 100_000, "nests deeper"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "nests deeper"),
        (b"1" * 5000, "not valid JSON"),
    ],
)
def test_json_is_read_strictly(text: bytes, message: str, tmp_path: Path) -> None:
    """Non-finite numbers, duplicate keys and deep nests are refused."""
    path = tmp_path / "answer.json"
    path.write_bytes(text)
    with pytest.raises(SubmissionError, match=message):
        read_json(path)


def test_json_with_brackets_in_strings_is_read(tmp_path: Path) -> None:
    """Brackets inside strings do not count as depth."""
    path = tmp_path / "answer.json"
    value = {"a": "[" * 200, "b": '\\"[', "c": [1, 2.5, None, True]}
    path.write_text(json.dumps(value))
    assert read_json(path) == value


def test_safetensors_are_read_if_they_are_as_expected(tmp_path: Path) -> None:
    """Names, dtypes and shapes must be exactly those expected, and numbers finite."""
    path = tmp_path / "model.safetensors"
    tensors = {"w": torch.ones(2, 3), "b": torch.zeros(3)}
    save_file(tensors, path)
    expected = {"w": ("F32", (2, 3)), "b": ("F32", (3,))}
    assert torch.equal(read_safetensors(path, expected)["w"], tensors["w"])
    with pytest.raises(SubmissionError, match="missing"):
        read_safetensors(path, {**expected, "c": ("F32", (1,))})
    with pytest.raises(SubmissionError, match=r"must be F32 \(3, 2\)"):
        read_safetensors(path, {**expected, "w": ("F32", (3, 2))})
    save_file({**tensors, "b": torch.full((3,), float("nan"))}, path)
    with pytest.raises(SubmissionError, match="NaN"):
        read_safetensors(path, expected)


@pytest.mark.parametrize(
    "header",
    [
        {"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}},
        {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}},
        {"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"w": {"dtype": "X", "shape": [1], "data_offsets": [0, 4]}},
        {"w": [1], "v": 2},
        {
            "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            "v": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        },
    ],
)
def test_safetensors_that_lie_are_refused(header: dict[str, Any], tmp_path: Path) -> None:
    """Overlaps, gaps and sizes that do not fit their shapes are found in the header."""
    path = tmp_path / "model.safetensors"
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"\0" * 4)
    with pytest.raises(SubmissionError):
        safetensors_layout(path)
    path.write_bytes(struct.pack("<Q", 1 << 60) + raw)
    with pytest.raises(SubmissionError, match="header length"):
        safetensors_layout(path)
