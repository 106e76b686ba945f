"""Artefacts at the edges of what is taken: exactly as much as is allowed, and a byte more."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlrcbench.artefacts import (
    MAX_ENTRIES,
    ArtefactSpec,
    collect,
    map_npy,
    read_json,
    read_npy,
    read_safetensors,
    safetensors_layout,
)
from mlrcbench.errors import SubmissionError
from mlrcbench.score import Score

CHUNK = 1 << 20  # files are copied in pieces of this size


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An empty folder of artefacts."""
    (tmp_path / "artefacts").mkdir()
    return tmp_path / "artefacts"


@pytest.mark.parametrize("size", [0, 1, 100, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_a_file_may_be_as_large_as_is_said(size: int, source: Path, tmp_path: Path) -> None:
    """And arrives whole; a byte more is refused."""
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    (source / "a.bin").write_bytes(content)
    collect(source, tmp_path / "kept", [ArtefactSpec("a.bin", max_bytes=size)])
    assert (tmp_path / "kept" / "a.bin").read_bytes() == content
    if size:
        with pytest.raises(SubmissionError, match=f"{size:,} bytes; at most {size - 1:,}"):
            collect(source, tmp_path / "again", [ArtefactSpec("a.bin", max_bytes=size - 1)])


def test_the_folders_above_a_copy_are_made(source: Path, tmp_path: Path) -> None:
    """But a copy never goes into a folder that is there: something may be in it."""
    (source / "a").write_bytes(b"x")
    collect(source, tmp_path / "new" / "kept", [ArtefactSpec("a", 1)])
    with pytest.raises(FileExistsError):
        collect(source, tmp_path / "new" / "kept", [ArtefactSpec("a", 1)])


def test_as_many_files_may_match_as_is_said(source: Path, tmp_path: Path) -> None:
    """Each of them is taken."""
    for number in range(3):
        (source / f"m{number}").write_bytes(b"x")
    collect(source, tmp_path / "kept", [ArtefactSpec("m*", 1, max_files=3)])
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["m0", "m1", "m2"]


def test_a_folder_may_have_as_many_entries_as_is_said(source: Path, tmp_path: Path) -> None:
    """One more is refused, before any file is opened."""
    for number in range(MAX_ENTRIES):
        (source / str(number)).symlink_to("x")
    (source / "0").unlink()
    (source / "0").write_bytes(b"x")
    collect(source, tmp_path / "kept", [ArtefactSpec("0", 1)])
    (source / "more").symlink_to("x")
    with pytest.raises(SubmissionError, match="more than 10000 entries"):
        collect(source, tmp_path / "again", [ArtefactSpec("0", 1)])


@pytest.mark.parametrize(
    ("count", "words"), [(0, "is empty"), (5, "holds '0', '1', '2', '3', '4'$"), (6, "'4' and others$")]
)
def test_a_missing_file_is_explained_by_what_is_there(
    count: int, words: str, source: Path, tmp_path: Path
) -> None:
    """Up to five names."""
    for number in range(count):
        (source / str(number)).touch()
    with pytest.raises(SubmissionError, match=words):
        collect(source, tmp_path / "kept", [ArtefactSpec("a.bin", 1)])


@pytest.mark.parametrize(("opening", "closing"), ["[]", "{}"])
@pytest.mark.parametrize(("depth", "fits"), [(64, True), (65, False)])
def test_json_may_nest_as_deep_as_is_said(
    opening: str, closing: str, depth: int, fits: bool, tmp_path: Path
) -> None:
    """Brackets in a string do not count, even after an escaped quote."""
    path = tmp_path / "a.json"
    text = opening * depth + closing * depth if opening == "[" else '{"a":' * depth + "1" + "}" * depth
    path.write_text(text)
    if fits:
        read_json(path)
    else:
        with pytest.raises(SubmissionError, match="nests deeper than 64 levels"):
            read_json(path)
    value = ['"' + opening * 200 + "\\"]
    path.write_text(json.dumps(value))
    assert read_json(path) == value


def _npy(path: Path, header: str, data: bytes, version: bytes = b"\x01\x00") -> Path:
    """A `.npy` file with a header of one's own."""
    text = header.encode("latin-1")
    width = 2 if version[0] == 1 else 4
    path.write_bytes(b"\x93NUMPY" + version + len(text).to_bytes(width, "little") + text + data)
    return path


HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }"


@pytest.mark.parametrize("version", [b"\x01\x00", b"\x02\x00"])
@pytest.mark.parametrize(("length", "fits"), [(1024, True), (1025, False)])
def test_an_npy_header_may_be_as_long_as_is_said(
    version: bytes, length: int, fits: bool, tmp_path: Path
) -> None:
    """In both versions of the format."""
    array = np.array([1.5, -2.0])
    path = _npy(tmp_path / "a.npy", HEADER.ljust(length), array.tobytes(), version)
    if fits:
        assert np.array_equal(read_npy(path, shape=(2,), dtype="<f8"), array)
        assert np.array_equal(map_npy(path, shape=(2,), dtype="<f8"), array)
    else:
        with pytest.raises(SubmissionError, match=r"not a \.npy file"):
            read_npy(path, shape=(2,), dtype="<f8")


@pytest.mark.parametrize(
    "header",
    [
        HEADER.replace("(2,)", "[2]"),
        HEADER.replace("(2,)", "(True,)"),
        HEADER.replace("(2,)", "(-2,)"),
        HEADER.replace("(2,)", "2"),
        HEADER.replace("False", "0"),
        HEADER.replace("'<f8'", "[('a', '<f8')]"),
        HEADER.replace("'descr'", "'descry'"),
        "[1]",
        "{",
    ],
)
def test_an_npy_header_of_other_types_is_refused(header: str, tmp_path: Path) -> None:
    """Each field has one type."""
    with pytest.raises(SubmissionError, match=r"not a \.npy file"):
        read_npy(_npy(tmp_path / "a.npy", header, bytes(16)), shape=(2,), dtype="<f8")


@pytest.mark.parametrize("version", [b"\x00\x00", b"\x01\x01", b"\x03\x00"])
def test_other_versions_of_npy_are_refused(version: bytes, tmp_path: Path) -> None:
    """Version 3 has names in Unicode, which an array of numbers does not need."""
    with pytest.raises(SubmissionError, match="version 1 or 2"):
        read_npy(_npy(tmp_path / "a.npy", HEADER, bytes(16), version), shape=(2,), dtype="<f8")


def test_an_array_in_fortran_order_is_refused(tmp_path: Path) -> None:
    """Its bytes would be read in the wrong order."""
    path = tmp_path / "a.npy"
    np.save(path, np.asfortranarray([[1.0, 2.0], [3.0, 4.0]]))
    with pytest.raises(SubmissionError, match="Fortran order"):
        read_npy(path, shape=(2, 2), dtype="<f8")


@pytest.mark.parametrize("change", [-8, -1, 1, 8])
def test_an_array_has_exactly_its_bytes(change: int, tmp_path: Path) -> None:
    """Neither fewer nor more."""
    path = _npy(tmp_path / "a.npy", HEADER, bytes(16 + change))
    with pytest.raises(SubmissionError, match=f"holds {16 + change} bytes"):
        read_npy(path, shape=(2,), dtype="<f8")


def _safetensors(path: Path, header: Any, data: bytes, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def _entry(start: int, end: int, dtype: str = "F32", shape: tuple[int, ...] = (1,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def test_tensors_may_lie_in_any_order_and_be_empty(tmp_path: Path) -> None:
    """They cover the data once; metadata is left out."""
    header = {
        "__metadata__": {"a": "b"},
        "b": _entry(4, 8),
        "a": _entry(0, 4),
        "empty": _entry(8, 8, shape=(0, 3)),
    }
    layout = safetensors_layout(_safetensors(tmp_path / "a", header, bytes(8)))
    assert layout == {"b": ("F32", (1,)), "a": ("F32", (1,)), "empty": ("F32", (0, 3))}


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"a": _entry(0, 4), "b": _entry(4, 9)}, "do not fit|its data has"),
        ({"a": _entry(1, 5)}, "gaps"),
        ({"a": _entry(0, 4), "b": _entry(0, 8, shape=(2,))}, "gaps"),
        ({"a": _entry(0, 4)}, "its data has 8 bytes, not 4"),
        ({"a": _entry(0, 8, shape=(1,))}, "do not fit its shape"),
        ({"a": _entry(0, 8, dtype="F64", shape=(2,))}, "do not fit its shape"),
        ({"a": _entry(0, 8, dtype="F8")}, "malformed"),
        ({"a": _entry(0, 8, shape=(-2,))}, "malformed"),
        ({"a": {**_entry(0, 8), "shape": [True, 2]}}, "malformed"),
        ({"a": {**_entry(0, 8), "data_offsets": [0, 8, 8]}}, "malformed"),
        ({"a": {**_entry(0, 8), "data_offsets": [0, 8.0]}}, "malformed"),
        ({"a": [[[[]]]]}, "nests too deep"),
        (b'{"a": 1, "a": 2}', "malformed"),
        (b"[]", "malformed"),
        (b"\xff", "malformed"),
    ],
)
def test_a_safetensors_header_that_contradicts_its_file_is_refused(
    header: Any, words: str, tmp_path: Path
) -> None:
    """Overlaps, gaps, other sizes, other types."""
    with pytest.raises(SubmissionError, match=words):
        safetensors_layout(_safetensors(tmp_path / "a", header, bytes(8)))


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL"])
def test_every_type_of_a_tensor_has_its_size(dtype: str, tmp_path: Path) -> None:
    """As the format defines it."""
    size = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}[dtype]
    path = _safetensors(tmp_path / "a", {"a": _entry(0, 6 * size, dtype, (2, 3))}, bytes(6 * size))
    assert safetensors_layout(path) == {"a": (dtype, (2, 3))}
    assert tuple(read_safetensors(path, {"a": (dtype, (2, 3))})["a"].shape) == (2, 3)


@pytest.mark.parametrize(("size", "length"), [(0, 0), (7, 0), (8, 1), (20, 13), (20, 2**63)])
def test_a_safetensors_header_lies_within_its_file(size: int, length: int, tmp_path: Path) -> None:
    """The file is shorter than a length, or than the header that it promises."""
    path = tmp_path / "a"
    path.write_bytes((length.to_bytes(8, "little") + bytes(64))[:size])
    with pytest.raises(SubmissionError, match="its header length"):
        safetensors_layout(path)


@pytest.mark.parametrize(("length", "fits"), [(16 << 20, True), ((16 << 20) + 1, False)])
def test_a_safetensors_header_may_be_as_long_as_is_said(length: int, fits: bool, tmp_path: Path) -> None:
    """The format pads it with blanks."""
    path = _safetensors(tmp_path / "a", json.dumps({"a": _entry(0, 4)}).encode().ljust(length), bytes(4))
    if fits:
        assert safetensors_layout(path) == {"a": ("F32", (1,))}
    else:
        with pytest.raises(SubmissionError, match="its header length"):
            safetensors_layout(path)


@pytest.mark.parametrize(
    "text",
    [
        "1" + "0" * 400,
        str(2**63),
        str(-(2**63)),
        '"\\ud800"',
        '{"\\udfff": 1}',
        '["\\ud83d\\ud83d"]',
    ],
)
def test_json_that_python_reads_and_others_cannot_use_is_refused(text: str, tmp_path: Path) -> None:
    """Numbers of more than 64 bits and halves of characters would only fail later, in a scorer."""
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(SubmissionError, match="not valid JSON"):
        read_json(path)


def test_json_keeps_whole_characters_and_whole_numbers(tmp_path: Path) -> None:
    """The largest numbers, and characters of two escapes."""
    path = tmp_path / "a.json"
    value = [2**63 - 1, 1 - 2**63, "\U0001f600", "\\ud800"]
    path.write_text(json.dumps(value))
    assert read_json(path) == value


_TENSOR = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
_EXPECTED = {"w": ("F32", (1,))}


def _with_header(path: Path, header: str, data: bytes = bytes(4)) -> Path:
    """A safetensors file with a header of one's own."""
    raw = header.encode("utf-8")
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


@pytest.mark.parametrize(
    "header",
    [
        f'{{"__metadata__":5,"w":{_TENSOR}}}',
        f'{{"__metadata__":[],"w":{_TENSOR}}}',
        f'{{"__metadata__":{{"a":1}},"w":{_TENSOR}}}',
        f'{{"__metadata__":{{"a":null}},"w":{_TENSOR}}}',
        f'{{"__metadata__":{{"a":"\\ud800"}},"w":{_TENSOR}}}',
        f'{{"__metadata__":{{"\\udc00":"a"}},"w":{_TENSOR}}}',
        f' {{"w":{_TENSOR}}}',
        _TENSOR.join(('{"w":', "}")).replace("[1]", '[1],"x":NaN'),
        _TENSOR.join(('{"w":', "}")).replace("[1]", '[1],"x":1e999'),
        _TENSOR.join(('{"w":', "}")).replace("[1]", f'[1],"x":1{"0" * 400}'),
        _TENSOR.join(('{"w":', "}")).replace("[1]", '[1],"x":"\\ud800"'),
        _TENSOR.join(('{"w":', "}")).replace("[0,4]", "[-0,4]"),
        _TENSOR.join(('{"w":', "}")).replace("[1]", "[1.0]"),
        _TENSOR.join(('{"w":', "}")).replace("[1]", '"1"'),
        _TENSOR.join(('{"w":', "}")).replace("[1]", "[true]"),
        _TENSOR.join(('{"w":', "}")).replace('"F32"', '["F32"]'),
        f'{{"w":{_TENSOR},"v":{{"dtype":"F32","shape":[{2**62},4,0],"data_offsets":[4,4]}}}}',
        "[]",
        "null",
    ],
)
def test_a_safetensors_header_that_the_package_refuses_is_refused(header: str, tmp_path: Path) -> None:
    """As the agent's fault; an error of the package itself would count as the scorer's."""
    path = _with_header(tmp_path / "m.safetensors", header)
    with pytest.raises(SubmissionError, match="not a safetensors file"):
        safetensors_layout(path)
    with pytest.raises(SubmissionError, match="not a safetensors file"):
        read_safetensors(path, _EXPECTED)


@pytest.mark.parametrize("before", ["", '"__metadata__":{"format":"pt"},', '"__metadata__":null,'])
def test_a_safetensors_header_with_metadata_is_read(before: str, tmp_path: Path) -> None:
    """Metadata are texts by texts; spaces may follow the header."""
    path = _with_header(tmp_path / "m.safetensors", f'{{{before}"w":{_TENSOR}}}   ')
    assert read_safetensors(path, _EXPECTED)["w"].tolist() == [0.0]


def test_what_the_package_itself_refuses_is_the_agents_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where this library's check accepts more than a later version of the package."""
    path = _with_header(tmp_path / "m.safetensors", f'{{"__metadata__":5,"w":{_TENSOR}}}')
    monkeypatch.setattr("mlrcbench.artefacts.safetensors_layout", lambda _: _EXPECTED)
    with pytest.raises(SubmissionError, match="not a safetensors file"):
        read_safetensors(path, _EXPECTED)


@pytest.mark.parametrize("names", [[b"p\xff.bin"], [b"p.bin", b"\x1b]0;x.bin"]])
def test_names_of_any_bytes_are_explained(names: list[bytes], source: Path, tmp_path: Path) -> None:
    """In an error whose text has a UTF-8 form, once it is a score's reason."""
    for name in names:
        (source / os.fsdecode(name)).symlink_to("nowhere")
    with pytest.raises(SubmissionError) as caught:
        collect(source, tmp_path / "kept", [ArtefactSpec("p*.bin", 1)])
    Score.invalid(str(caught.value)).reason.encode("utf-8")
