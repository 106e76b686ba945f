"""Artefacts: reading what hostile code left behind, without believing a word of it.

Two steps. `collect` copies the declared files out of a finished evaluation's folder: each
must be a regular file with one link, reached without following any link, within its size
cap. The readers then parse one format each, and check type, shape and length *before* any
memory is reserved. Nothing here unpickles, imports, decompresses or follows.

Every fault is a `SubmissionError` whose text tells the agent what to write instead.
"""

from __future__ import annotations

import ast
import fnmatch
import json
import math
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlrcbench.errors import SubmissionError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

MAX_ENTRIES = 10_000
_CHUNK = 1 << 20
_NPY_HEADER_BYTES = 1024
_SAFETENSORS_HEADER_BYTES = 16 << 20
_JSON_DEPTH = 64
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SAFETENSORS_DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}


@dataclass(frozen=True, slots=True)
class ArtefactSpec:
    """One line of a card's `[[artefacts]]`: what may leave an evaluation.

    Attributes:
        pattern: File name, or a glob over file names, directly in `artefacts/`.
        max_bytes: Size cap for each file.
        max_files: How many files may match.
    """

    pattern: str
    max_bytes: int
    max_files: int = 1


def collect(source: Path, target: Path, specs: Sequence[ArtefactSpec]) -> None:
    """Copy the declared artefacts from `source` into the new folder `target`.

    Files that no spec names are ignored, so that caches and logs do no harm.

    Args:
        source: The evaluation's `artefacts/` folder, after its last process has ended.
        target: Created; holds plain files only, afterwards.
        specs: What the card declares.

    Raises:
        SubmissionError: A file is missing, too large, one too many, or no plain file.
    """
    target.mkdir(parents=True)
    try:
        folder = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise SubmissionError("the folder artefacts/ is gone; leave it and write into it") from None
    try:
        names = _names(folder)
        for spec in specs:
            matches = sorted(name for name in names if fnmatch.fnmatchcase(name, spec.pattern))
            if not matches:
                raise SubmissionError(f"artefacts/{spec.pattern} is missing; {_found(names)}")
            if len(matches) > spec.max_files:
                raise SubmissionError(
                    f"{len(matches)} files match artefacts/{spec.pattern}; at most {spec.max_files} may"
                )
            for name in matches:
                _copy_out(folder, name, target / name, spec.max_bytes)
    finally:
        os.close(folder)


def read_json(path: Path) -> Any:
    """Parse a JSON file strictly: UTF-8, no NaN, no duplicate keys, bounded depth.

    Raises:
        SubmissionError: It is not such a file.
    """
    name = path.name
    data = path.read_bytes()
    if _depth(data) > _JSON_DEPTH:
        raise SubmissionError(f"{name} nests deeper than {_JSON_DEPTH} levels")
    try:
        return json.loads(
            data.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_unique_pairs,
        )
    except UnicodeDecodeError as error:
        raise SubmissionError(f"{name} is not UTF-8: {error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise SubmissionError(f"{name} is not valid JSON: {error}") from None


def read_npy(path: Path, *, shape: tuple[int, ...], dtype: str) -> npt.NDArray[np.generic]:
    """Read a `.npy` file whose dtype and shape are known beforehand.

    Args:
        path: A collected file.
        shape: The exact shape it must have.
        dtype: The exact dtype, for example "<f4" or "<i8".

    Returns:
        A C-ordered array of that shape and dtype; floats are finite.

    Raises:
        SubmissionError: It is anything else.
    """
    import numpy as np

    wanted = np.dtype(dtype)
    with path.open("rb") as file:
        file.seek(_npy_offset(path, shape, wanted))
        array = np.frombuffer(file.read(math.prod(shape) * wanted.itemsize), dtype=wanted).reshape(shape)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise SubmissionError(f"{path.name} contains NaN or infinity; every number must be finite")
    return array


def map_npy(path: Path, *, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """Map such a file instead of reading it: for artefacts that are too large to be in memory as a whole.

    Args:
        path: A collected file.
        shape: The exact shape it must have; not empty.
        dtype: The exact dtype.

    Returns:
        A read-only array of that shape and dtype. Whether its floats are finite is for the caller to check.

    Raises:
        SubmissionError: It is anything else.
    """
    import numpy as np

    wanted = np.dtype(dtype)
    return np.memmap(path, dtype=wanted, mode="r", offset=_npy_offset(path, shape, wanted), shape=shape)


def _npy_offset(path: Path, shape: tuple[int, ...], wanted: np.dtype[Any]) -> int:
    """Where the data of a `.npy` file begin, if it has this shape and dtype."""
    name, expected = path.name, math.prod(shape) * wanted.itemsize
    with path.open("rb") as file:
        header = _npy_header(file.read(12 + _NPY_HEADER_BYTES), name)
    if header.descr != wanted.str:
        raise SubmissionError(f"{name} has dtype {header.descr!r}; it must be {wanted.str!r}")
    if header.shape != shape:
        raise SubmissionError(f"{name} has shape {header.shape}; it must be {shape}")
    if header.fortran:
        raise SubmissionError(f"{name} is in Fortran order; save numpy.ascontiguousarray(x)")
    length = path.stat().st_size - header.offset
    if length != expected:
        raise SubmissionError(f"{name} holds {length} bytes of data; {shape} needs {expected}")
    return header.offset


def safetensors_layout(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The `{name: (dtype, shape)}` of a safetensors file, read from its header alone.

    The header is checked against the file: offsets must tile the data exactly, and each
    tensor's bytes must be its shape times its dtype.

    Raises:
        SubmissionError: The file is not a consistent safetensors file.
    """
    name, size = path.name, path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _SAFETENSORS_HEADER_BYTES):
            raise SubmissionError(f"{name} is not a safetensors file: its header length is {length}")
        raw = file.read(length)
    if _depth(raw) > 4:
        raise SubmissionError(f"{name} is not a safetensors file: its header nests too deep")
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique_pairs)
        header.pop("__metadata__", None)
        entries = {str(key): _tensor_entry(value) for key, value in header.items()}
    except (ValueError, AttributeError, KeyError, TypeError):
        raise SubmissionError(f"{name} is not a safetensors file: its header is malformed") from None
    _check_tiling(name, [entry[2] for entry in entries.values()], size - 8 - length)
    for key, (dtype, shape, (start, end)) in entries.items():
        if end - start != math.prod(shape) * _SAFETENSORS_DTYPES[dtype]:
            raise SubmissionError(f"{name}: the bytes of {key!r} do not fit its shape {shape}")
    return {key: (dtype, shape) for key, (dtype, shape, _) in entries.items()}


def read_safetensors(
    path: Path, expected: Mapping[str, tuple[str, tuple[int, ...]]]
) -> dict[str, torch.Tensor]:
    """Read a safetensors file whose every name, dtype and shape is known beforehand.

    Args:
        path: A collected file.
        expected: For each tensor its dtype in safetensors' words ("F32") and its shape.

    Returns:
        The tensors on the CPU; floats are finite.

    Raises:
        SubmissionError: A tensor is missing, extra, of another dtype or shape, or not finite.
    """
    layout, name = safetensors_layout(path), path.name
    if layout.keys() != expected.keys():
        missing, extra = sorted(expected.keys() - layout.keys()), sorted(layout.keys() - expected.keys())
        raise SubmissionError(f"{name} must hold the given tensors: missing {missing[:5]}, extra {extra[:5]}")
    for key, (dtype, shape) in expected.items():
        if layout[key] != (dtype, tuple(shape)):
            found = layout[key]
            raise SubmissionError(
                f"{name}: {key!r} is {found[0]} {found[1]}; it must be {dtype} {tuple(shape)}"
            )
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = load_file(path)
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise SubmissionError(f"{name}: {key!r} contains NaN or infinity; weights must be finite")
    return tensors


def _names(folder: int) -> list[str]:
    """Names in an open folder, bounded."""
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > MAX_ENTRIES:
                raise SubmissionError(f"artefacts/ holds more than {MAX_ENTRIES} entries; write fewer")
    return names


def _found(names: Sequence[str]) -> str:
    """What is there instead, for an error."""
    if not names:
        return "artefacts/ is empty"
    shown = ", ".join(repr(name) for name in sorted(names)[:5])
    return f"artefacts/ holds {shown}{' and others' if len(names) > 5 else ''}"


def _copy_out(folder: int, name: str, target: Path, max_bytes: int) -> None:
    """Copy one file by descriptor; the path is never used twice."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    shown = f"artefacts/{name}"
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError:
        raise SubmissionError(f"{shown} cannot be opened: write a plain file, no link, no socket") from None
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
            raise SubmissionError(f"{shown} must be a plain file of its own, no folder, link or device")
        if info.st_size > max_bytes:
            raise SubmissionError(f"{shown} has {info.st_size:,} bytes; at most {max_bytes:,} are allowed")
        with target.open("xb") as copy:
            left = max_bytes + 1
            while left > 0 and (chunk := os.read(descriptor, min(_CHUNK, left))):
                copy.write(chunk)
                left -= len(chunk)
    finally:
        os.close(descriptor)
    if left <= 0:
        raise SubmissionError(f"{shown} grew while it was read; at most {max_bytes:,} bytes are allowed")


def _depth(data: bytes) -> int:
    """Deepest nesting of brackets outside of strings, in linear time and no recursion."""
    import numpy as np

    brackets = np.frombuffer(_STRING.sub(b"", data).translate(None, _NO_BRACKETS), dtype=np.uint8)
    steps = np.where((brackets == ord("[")) | (brackets == ord("{")), 1, -1)
    return int(np.cumsum(steps).max(initial=0))


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number; every number must be finite")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_constant(text)


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:80]!r} stands twice")
        found[key] = value
    return found


@dataclass(frozen=True, slots=True)
class _NpyHeader:
    descr: str
    shape: tuple[int, ...]
    fortran: bool
    offset: int


def _npy_header(head: bytes, name: str) -> _NpyHeader:
    """Parse the header of a version 1 or 2 `.npy` file (NumPy enhancement proposal 1)."""
    fault = SubmissionError(f"{name} is not a .npy file as numpy.save writes it, version 1 or 2")
    if head[:6] != b"\x93NUMPY" or head[6:8] not in (b"\x01\x00", b"\x02\x00"):
        raise fault
    width = 2 if head[6] == 1 else 4
    start = 8 + width
    length = int.from_bytes(head[8:start], "little")
    if length > _NPY_HEADER_BYTES or len(head) < start + length:
        raise fault
    try:
        fields = ast.literal_eval(head[start : start + length].decode("latin-1").strip())
        descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    except (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError):
        raise fault from None
    plain = isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)
    if not plain or not isinstance(descr, str) or not isinstance(fortran, bool):
        raise fault
    return _NpyHeader(descr, shape, fortran, start + length)


def _tensor_entry(value: Any) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    """One tensor of a safetensors header, with every type checked."""
    dtype, shape, (start, end) = value["dtype"], value["shape"], value["data_offsets"]
    numbers = [*shape, start, end]
    if dtype not in _SAFETENSORS_DTYPES or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError("malformed tensor entry")
    return dtype, tuple(shape), (start, end)


def _check_tiling(name: str, spans: Sequence[tuple[int, int]], size: int) -> None:
    """Offsets must cover the data exactly once, from the first byte to the last."""
    position = 0
    for start, end in sorted(spans):
        if start != position or end < start:
            raise SubmissionError(f"{name} is not a safetensors file: its offsets overlap or leave gaps")
        position = end
    if position != size:
        raise SubmissionError(f"{name} is not a safetensors file: its data has {size} bytes, not {position}")
