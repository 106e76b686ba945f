"""Messages of a played evaluation: questions come from descriptor 3, answers go to descriptor 4."""

import json
import os
import struct

import numpy as np


def questions():
    """Each question as its fields, a dict, and its arrays by name, until the game is over."""
    while lengths := _read(8):
        header, body = struct.unpack("<II", lengths)
        fields, data = json.loads(_read(header)), _read(body)
        arrays, start = {}, 0
        for name, (dtype, shape) in fields.pop("arrays").items():
            arrays[name] = np.frombuffer(data, dtype, int(np.prod(shape)), start).reshape(shape)
            start += arrays[name].nbytes
        yield fields, arrays


def answer(fields=None, **arrays):
    """Answer the last question with a dict of JSON types and with arrays."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    layout = {name: [array.dtype.str, array.shape] for name, array in arrays.items()}
    header = json.dumps({**(fields or {}), "arrays": layout}).encode()
    body = b"".join(array.tobytes() for array in arrays.values())
    unsent = memoryview(struct.pack("<II", len(header), len(body)) + header + body)
    while unsent:
        unsent = unsent[os.write(4, unsent) :]


def _read(count):
    """So many bytes of the next question; none when the game is over."""
    data = b""
    while len(data) < count and (part := os.read(3, count - len(data))):
        data += part
    return data
