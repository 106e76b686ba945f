"""Hostile artefacts: each route leaves one in the place of the first that the card declares."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

Told = dict[str, Any]
FOLDER = "artefacts"


def place(told: Told) -> str:
    """Where the artefact belongs; nothing is there yet."""
    path = f"{FOLDER}/{told['artefact']}"
    if os.path.lexists(path):
        os.unlink(path)
    return path


def leave(data: bytes) -> Callable[[Told], None]:
    """A route that leaves these bytes."""

    def route(told: Told) -> None:
        with open(place(told), "wb") as file:
            file.write(data)

    return route


def array(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> Callable[[Told], None]:
    """A route that leaves an array file with this header."""
    text = header.encode("latin-1") + b"\n"
    return leave(b"\x93NUMPY" + version + struct.pack("<H", len(text) % 65536) + text + data)


class Payload:
    """Runs a command where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def pickled(told: Told) -> None:
    """A pickle that runs code."""
    with open(place(told), "wb") as file:
        file.write(pickle.dumps(Payload(f"{told['outside']}/{told['marker']}")))


def pickled_array(told: Told) -> None:
    """An array of objects, which are pickled."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (100,), }\n"
    data = pickle.dumps(Payload(f"{told['outside']}/{told['marker']}"))
    with open(place(told), "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data)


def torch_archive(told: Told) -> None:
    """A weights file as torch saves it: an archive with a pickle."""
    with zipfile.ZipFile(place(told), "w") as archive:
        data = pickle.dumps(Payload(f"{told['outside']}/{told['marker']}"))
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3")


def linked(told: Told) -> None:
    """A symbolic link to the answers."""
    os.symlink(best_answer(told), place(told))


def best_answer(told: Told) -> str:
    """The answers of the split that is most likely asked for."""
    found: str = next(path for path in told["answers"] if "/dev/answers/" in path)
    return found


def copied(told: Told) -> None:
    """A copy of the answers."""
    shutil.copyfile(best_answer(told), place(told))


def hard_linked(told: Told) -> None:
    """A hard link to the answers."""
    os.link(best_answer(told), place(told))


def chained(told: Told) -> None:
    """A link to a link, by way of another process's root folder."""
    os.symlink(f"/proc/{told['library_pid']}/root{best_answer(told)}", "hop")
    os.symlink("../hop", place(told))


def swapped_folder(told: Told) -> None:
    """The whole folder as a link to one with a link to the answers."""
    os.mkdir("elsewhere")
    os.symlink(best_answer(told), f"elsewhere/{told['artefact']}")
    shutil.rmtree(FOLDER)
    os.symlink("elsewhere", FOLDER)


def answers_folder(told: Told) -> None:
    """The whole folder as a link to that of the answers."""
    shutil.rmtree(FOLDER)
    os.symlink(os.path.dirname(best_answer(told)), FOLDER)


def pipe(told: Told) -> None:
    """A pipe that nobody writes into."""
    os.mkfifo(place(told))


def listener(told: Told) -> None:
    """A socket."""
    socket.socket(socket.AF_UNIX).bind(place(told))


def device(told: Told) -> None:
    """A device that never ends, or a link to one."""
    try:
        os.mknod(place(told), 0o020666, os.makedev(1, 5))
    except OSError:
        os.symlink("/dev/zero", place(told))


def folder(told: Told) -> None:
    """A folder."""
    os.mkdir(place(told))


def sparse(told: Told) -> None:
    """A file of a terabyte, or as much of it as is allowed, that uses no disk."""
    with open(place(told), "wb") as file:
        for exponent in range(40, 12, -1):
            try:
                os.truncate(file.fileno(), 1 << exponent)
                return
            except OSError:
                continue


def array_bomb(told: Told) -> None:
    """An archive of arrays that unpacks to a thousand times its size."""
    with zipfile.ZipFile(place(told), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("predictions.npy", bytes(64 << 20))


def packed_bomb(told: Told) -> None:
    """Compressed zeros."""
    with open(place(told), "wb") as file:
        file.write(zlib.compress(bytes(64 << 20)))


def weights(header: dict[str, Any], data: bytes = b"", length: int | None = None) -> Callable[[Told], None]:
    """A route that leaves a safetensors file with this header."""
    text = json.dumps(header).encode()
    return leave(struct.pack("<Q", len(text) if length is None else length) + text + data)


def crowd(_told: Told) -> None:
    """Ten thousand files beside it."""
    for number in range(10_000):
        os.close(os.open(f"{FOLDER}/{number}", os.O_WRONLY | os.O_CREAT))


def many(told: Told) -> None:
    """Copies of it under more names than the card allows."""
    stem, dot, end = told["artefact"].rpartition(".")
    for number in range(500):
        with open(f"{FOLDER}/{stem}{number}{dot}{end}", "wb") as file:
            file.write(b"x")


def own_score(_told: Told) -> None:
    """Files and lines that say what the score is."""
    score = json.dumps({"value": 0.0, "outcome": "scored", "improvement": 9.0})
    for name in ("score.json", "answer.json", "result.json"):
        for base in (".", FOLDER, "inputs", "answers"):
            try:
                with open(f"{base}/{name}", "w", encoding="utf-8") as file:
                    file.write(score)
            except OSError:
                continue
    print(score)
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, json.dumps({"value": json.loads(score)}).encode())
        except OSError:
            continue


def strange(value: float) -> Callable[[Told], None]:
    """A route that leaves an array of this number, of the shape that the inputs have."""

    def route(told: Told) -> None:
        import numpy as np

        names = [name for name in sorted(os.listdir("inputs")) if name.endswith(".npy")]
        shape = np.load(f"inputs/{names[0]}").shape if names else (100,)
        buffer = io.BytesIO()
        np.save(buffer, np.full(shape, value))
        leave(buffer.getvalue())(told)

    return route


ROUTES: dict[str, Callable[[Told], Any]] = {
    "copy-of-answers": copied,
    "symlink-to-answers": linked,
    "hardlink-to-answers": hard_linked,
    "link-through-proc": chained,
    "linked-folder": swapped_folder,
    "folder-of-answers": answers_folder,
    "pipe": pipe,
    "socket": listener,
    "device": device,
    "folder": folder,
    "sparse-file": sparse,
    "pickle": pickled,
    "array-of-pickles": pickled_array,
    "weights-with-pickle": torch_archive,
    "lying-shape": array("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"),
    "negative-shape": array("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 100), }", bytes(800)),
    "code-in-header": array("__import__('os').mkdir('/tmp/never')", bytes(800)),
    "deep-header": array("(" * 900 + ")" * 100),
    "lying-weights": weights({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
    "long-weights-header": weights({}, length=1 << 62),
    "archive-bomb": array_bomb,
    "compressed-bomb": packed_bomb,
    "deep-json": leave(b"[" * 4000),
    "not-a-number": strange(float("nan")),
    "infinite": strange(float("inf")),
    "huge-number": strange(1e308),
    "ten-thousand-files": crowd,
    "too-many-artefacts": many,
    "own-score": own_score,
}
