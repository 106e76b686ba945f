"""Artefacts: reading what hostile code left behind, without believing a word of it.

Reading takes two steps. `collect` copies the declared files out of a finished evaluation's
folder: each must be a regular file with one link, reached without following any link, and no
larger than its cap. Then each reader parses one format, and checks type, shape and length
*before* it reserves any memory. Nothing here unpickles, imports, decompresses or follows links.

Every fault raises a `SubmissionError` whose text tells the agent what to write instead.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlrcbench.errors import SubmissionError, of_the_machine

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

MAX_ENTRIES = 10_000
_CHUNK = 1 << 20
_NPY_HEADER_BYTES = 1024
_NPY_FIELDS = re.compile(
    r"\s*\{ *'descr': *'([^'\\]*)', *'fortran_order': *(True|False), "
    r"*'shape': *\(((?: *[0-9]+ *,)*|(?: *[0-9]+ *,)+ *[0-9]+) *\) *,? *\}\s*"
)
_SAFETENSORS_HEADER_BYTES = 16 << 20
JSON_DEPTH = 64
_MAX_INTEGER = 2**63 - 1
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SAFETENSORS_DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}


@dataclass(frozen=True, slots=True)
class ArtefactSpec:
    """One entry of a card's `[[artefacts]]`: files that may leave an evaluation.

    Attributes:
        pattern: Name of a file directly in `artefacts/`, or a glob over such names.
        max_bytes: Size cap for each file.
        max_files: How many files may match.
    """

    pattern: str
    max_bytes: int
    max_files: int = 1


def collect(source: Path, target: Path, specs: Sequence[ArtefactSpec]) -> None:
    """Copy the declared artefacts from `source` into the new folder `target`.

    Files that match no spec are ignored, so that caches and logs do no harm.

    Args:
        source: The `artefacts/` folder of an evaluation whose last process has ended.
        target: The folder to create; it will hold plain files only.
        specs: The artefacts that the card declares.

    Raises:
        SubmissionError: A file is missing, too large or not a plain file, or there are too many.
    """
    target.mkdir(parents=True)
    with _refused("the folder artefacts/ is gone or closed; keep it as it is, and write your files into it"):
        folder = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        names = _names(folder)
        for spec in specs:
            matches = sorted(name for name in names if fnmatch.fnmatchcase(name, spec.pattern))
            if not matches:
                raise SubmissionError(f"artefacts/{spec.pattern} is missing; {_contents(names)}")
            if len(matches) > spec.max_files:
                many = f"{len(matches)} files match artefacts/{spec.pattern}"
                raise SubmissionError(f"{many}; at most {spec.max_files} are allowed")
            for name in matches:
                _copy_out(folder, name, target / name, spec.max_bytes)
    finally:
        os.close(folder)


def read_json(path: Path) -> Any:
    """Parse a JSON file strictly: UTF-8, no NaN, no duplicate keys, bounded depth, whole numbers of 64 bits.

    Raises:
        SubmissionError: The file is not such JSON.
    """
    name = path.name
    data = path.read_bytes()
    if depth_of(data) > JSON_DEPTH:
        raise SubmissionError(f"{name} nests deeper than {JSON_DEPTH} levels")
    try:
        return parse_strictly(data.decode("utf-8"), parse_float=finite_float, parse_int=short_integer)
    except UnicodeDecodeError as error:
        raise SubmissionError(f"{name} is not UTF-8: {error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise SubmissionError(f"{name} is not valid JSON: {error}") from None


def read_npy(path: Path, *, shape: tuple[int, ...], dtype: str) -> npt.NDArray[np.generic]:
    """Read a `.npy` file whose dtype and shape are known beforehand.

    Args:
        path: A collected file.
        shape: The exact shape it must have.
        dtype: The exact dtype it must have, for example "<f4" or "<i8".

    Returns:
        A C-ordered array of that shape and dtype; floats are finite.

    Raises:
        SubmissionError: The file is anything else.
    """
    import numpy as np

    expected = np.dtype(dtype)
    with path.open("rb") as file:
        file.seek(_npy_offset(path, shape, expected))
        array = np.frombuffer(file.read(math.prod(shape) * expected.itemsize), dtype=expected).reshape(shape)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise SubmissionError(f"{path.name} contains NaN or infinity; every number must be finite")
    return array


def map_npy(path: Path, *, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """Map a `.npy` file instead of reading it, for artefacts that are too large for memory.

    Args:
        path: A collected file.
        shape: The exact shape it must have; it must not be empty.
        dtype: The exact dtype it must have.

    Returns:
        A read-only array of that shape and dtype. The caller must check that its floats are finite.

    Raises:
        SubmissionError: The file is anything else.
    """
    import numpy as np

    expected = np.dtype(dtype)
    return np.memmap(path, dtype=expected, mode="r", offset=_npy_offset(path, shape, expected), shape=shape)


def _npy_offset(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """The byte at which the data of a `.npy` file begin, after checking its shape and dtype."""
    name, data_bytes = path.name, math.prod(shape) * dtype.itemsize
    with path.open("rb") as file:
        descr, sides, fortran, offset = _npy_header(file.read(12 + _NPY_HEADER_BYTES), name)
    if descr != dtype.str:
        raise SubmissionError(f"{name} has dtype {descr!r}; it must be {dtype.str!r}")
    if sides != shape:
        raise SubmissionError(f"{name} has shape {sides}; it must be {shape}")
    if fortran:
        raise SubmissionError(f"{name} is in Fortran order; save numpy.ascontiguousarray(x)")
    length = path.stat().st_size - offset
    if length != data_bytes:
        raise SubmissionError(f"{name} holds {length} bytes of data; {shape} needs {data_bytes}")
    return offset


def safetensors_layout(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The `{name: (dtype, shape)}` of a safetensors file, read from its header alone.

    The header is checked against the file: the offsets must tile the data exactly, and each
    tensor must have as many bytes as its shape and dtype need.

    Raises:
        SubmissionError: The file is not a consistent safetensors file.
    """
    name, size = path.name, path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _SAFETENSORS_HEADER_BYTES):
            raise SubmissionError(f"{name} is not a safetensors file: its header length is {length}")
        raw = file.read(length)
    if depth_of(raw) > 4:
        raise SubmissionError(f"{name} is not a safetensors file: its header nests too deep")
    try:
        entries = _tensor_entries(raw.decode("utf-8"))
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        raise SubmissionError(f"{name} is not a safetensors file: its header is malformed") from None
    _check_tiling(name, [entry[2] for entry in entries.values()], size - 8 - length)
    for key, (dtype, shape, (start, end)) in entries.items():
        if end - start != math.prod(shape) * _SAFETENSORS_DTYPES[dtype]:
            raise SubmissionError(f"{name}: the bytes of {key!r} do not fit its shape {shape}")
    return {key: (dtype, shape) for key, (dtype, shape, _) in entries.items()}


def read_safetensors(
    path: Path, expected: Mapping[str, tuple[str, tuple[int, ...]]]
) -> dict[str, torch.Tensor]:
    """Read a safetensors file whose names, dtypes and shapes are all known beforehand.

    Args:
        path: A collected file.
        expected: For each tensor, its dtype as safetensors names it ("F32") and its shape.

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
            actual = " ".join(map(str, layout[key]))
            raise SubmissionError(f"{name}: {key!r} is {actual}; it must be {dtype} {tuple(shape)}")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise SubmissionError(f"{name} is not a safetensors file: {error}") from None
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise SubmissionError(f"{name}: {key!r} contains NaN or infinity; weights must be finite")
    return tensors


@contextlib.contextmanager
def _refused(message: str) -> Iterator[None]:
    """Turn a failure that agent code can bring about into a `SubmissionError`; others are raised."""
    try:
        yield
    except OSError as error:
        if of_the_machine(error):
            raise
        raise SubmissionError(message) from error


def _names(folder: int) -> list[str]:
    """The names in an open folder, of which there may be `MAX_ENTRIES` at most."""
    names: list[str] = []
    with _refused("the folder artefacts/ cannot be listed"), os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > MAX_ENTRIES:
                raise SubmissionError(f"artefacts/ holds more than {MAX_ENTRIES} entries; write fewer")
    return names


def _contents(names: Sequence[str]) -> str:
    """A few words for an error on what the folder holds."""
    if not names:
        return "artefacts/ is empty"
    first = ", ".join(repr(name) for name in sorted(names)[:5])
    return f"artefacts/ holds {first}{' and others' if len(names) > 5 else ''}"


def _copy_out(folder: int, name: str, target: Path, max_bytes: int) -> None:
    """Copy one file through a descriptor, so that its path is used only once."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    label = f"artefacts/{name}"
    with _refused(f"{label} cannot be opened: write a plain file that can be read, not a link or a socket"):
        descriptor = os.open(name, flags, dir_fd=folder)
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
            raise SubmissionError(f"{label} must be a plain file of its own, not a folder, link or device")
        if info.st_size > max_bytes:
            raise SubmissionError(f"{label} has {info.st_size:,} bytes; at most {max_bytes:,} are allowed")
        with target.open("xb") as copy:
            allowance = max_bytes + 1
            while allowance > 0:
                with _refused(f"{label} cannot be read"):
                    chunk = os.read(descriptor, min(_CHUNK, allowance))
                if not chunk:
                    break
                copy.write(chunk)
                allowance -= len(chunk)
    finally:
        os.close(descriptor)
    if allowance <= 0:
        raise SubmissionError(f"{label} grew while it was read; at most {max_bytes:,} bytes are allowed")


def depth_of(data: bytes) -> int:
    """The deepest nesting of brackets outside of strings, in linear time and without recursion."""
    import numpy as np

    brackets = np.frombuffer(_STRING.sub(b"", data).translate(None, _NO_BRACKETS), dtype=np.uint8)
    steps = np.where((brackets == ord("[")) | (brackets == ord("{")), 1, -1)
    return int(np.cumsum(steps).max(initial=0))


def parse_strictly(text: str, parse_float: Callable[[str], float], parse_int: Callable[[str], int]) -> Any:
    """Parse a JSON text with unique keys, finite numbers, and strings that have a UTF-8 form."""
    value = json.loads(
        text,
        parse_constant=_refuse_constant,
        parse_float=parse_float,
        parse_int=parse_int,
        object_pairs_hook=_unique_pairs,
    )
    if "\\u" in text:  # only an escape can be half of a character
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def short_integer(digits: str) -> int:
    """A whole number that fits into 64 bits with a sign."""
    if len(digits) > 20 or abs(int(digits)) > _MAX_INTEGER:
        raise ValueError(f"{digits[:40]} has more than 64 bits")
    return int(digits)


def _unsigned(digits: str) -> int:
    if digits[0] == "-":
        raise ValueError("a number has a sign")
    return short_integer(digits)


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number; every number must be finite")


def finite_float(text: str) -> float:
    """A number of a JSON text, which must be finite."""
    number = float(text)
    return number if math.isfinite(number) else _refuse_constant(text)


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key[:80]!r} stands twice")
        values[key] = value
    return values


def _npy_header(head: bytes, name: str) -> tuple[str, tuple[int, ...], bool, int]:
    """Dtype, shape, Fortran order and length of a `.npy` header of version 1 or 2 (NumPy proposal 1)."""
    fault = SubmissionError(f"{name} is not a .npy file as numpy.save writes it, version 1 or 2")
    if head[:6] != b"\x93NUMPY" or head[6:8] not in (b"\x01\x00", b"\x02\x00"):
        raise fault
    width = 2 if head[6] == 1 else 4
    start = 8 + width
    length = int.from_bytes(head[8:start], "little")
    if length > _NPY_HEADER_BYTES or len(head) < start + length:
        raise fault
    fields = _NPY_FIELDS.fullmatch(head[start : start + length].decode("latin-1"))
    if fields is None:
        raise fault
    descr, fortran, sides = fields.groups()
    shape = tuple(int(side) for side in sides.replace(" ", "").split(",") if side)
    return descr, shape, fortran == "True", start + length


def _tensor_entries(header: str) -> dict[str, tuple[str, tuple[int, ...], tuple[int, int]]]:
    """The tensors of a safetensors header, which is read as strictly as the package's own parser does."""
    if header[:1] != "{":
        raise ValueError("malformed header")
    entries = parse_strictly(header, parse_float=_refuse_constant, parse_int=_unsigned)
    metadata = entries.pop("__metadata__", None)
    if metadata is not None and not all(isinstance(text, str) for text in metadata.values()):
        raise TypeError("malformed metadata")
    return {key: _tensor_entry(value) for key, value in entries.items()}


def _tensor_entry(value: Any) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    """Dtype, shape and offsets of one tensor in a safetensors header, with every type checked."""
    if value.keys() != {"dtype", "shape", "data_offsets"} or not isinstance(value["shape"], list):
        raise ValueError("malformed tensor entry")
    dtype, shape, (start, end) = value["dtype"], value["shape"], value["data_offsets"]
    if dtype not in _SAFETENSORS_DTYPES or not all(type(n) is int for n in [*shape, start, end]):
        raise ValueError("malformed tensor entry")
    if math.prod(max(side, 1) for side in shape) > _MAX_INTEGER:  # the package multiplies from the left
        raise ValueError("malformed shape")
    return dtype, tuple(shape), (start, end)


def _check_tiling(name: str, spans: Sequence[tuple[int, int]], size: int) -> None:
    """Raise unless the offsets cover the data exactly once, from the first byte to the last."""
    position = 0
    for start, end in sorted(spans):
        if start != position or end < start:
            raise SubmissionError(f"{name} is not a safetensors file: its offsets overlap or leave gaps")
        position = end
    if position != size:
        raise SubmissionError(f"{name} is not a safetensors file: its data has {size} bytes, not {position}")
