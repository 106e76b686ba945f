"""Hostile artefacts: each route leaves one in the place of the first artefact that the card declares."""

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

Facts = dict[str, Any]
FOLDER = "artefacts"


def place(facts: Facts) -> str:
    """The path of the artefact; a file that is there is removed."""
    path = f"{FOLDER}/{facts['artefact']}"
    if os.path.lexists(path):
        os.unlink(path)
    return path


def leave(data: bytes) -> Callable[[Facts], None]:
    """A route that leaves these bytes."""

    def route(facts: Facts) -> None:
        with open(place(facts), "wb") as file:
            file.write(data)

    return route


def array(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> Callable[[Facts], None]:
    """A route that leaves an array file with this header."""
    text = header.encode("latin-1") + b"\n"
    return leave(b"\x93NUMPY" + version + struct.pack("<H", len(text) % 65536) + text + data)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def pickled(facts: Facts) -> None:
    """Leave a pickle that runs code."""
    with open(place(facts), "wb") as file:
        file.write(pickle.dumps(Payload(f"{facts['outside']}/{facts['marker']}")))


def pickled_array(facts: Facts) -> None:
    """Leave an array of objects, which are pickled."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (100,), }\n"
    data = pickle.dumps(Payload(f"{facts['outside']}/{facts['marker']}"))
    with open(place(facts), "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data)


def torch_archive(facts: Facts) -> None:
    """Leave a weights file as torch saves it: an archive with a pickle."""
    with zipfile.ZipFile(place(facts), "w") as archive:
        data = pickle.dumps(Payload(f"{facts['outside']}/{facts['marker']}"))
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3")


def linked(facts: Facts) -> None:
    """Leave a symbolic link to the answers."""
    os.symlink(best_answer(facts), place(facts))


def best_answer(facts: Facts) -> str:
    """The answers of the split that is evaluated, dev."""
    path: str = next(path for path in facts["answers"] if "/dev/answers/" in path)
    return path


def copied(facts: Facts) -> None:
    """Leave a copy of the answers."""
    shutil.copyfile(best_answer(facts), place(facts))


def hard_linked(facts: Facts) -> None:
    """Leave a hard link to the answers."""
    os.link(best_answer(facts), place(facts))


def chained(facts: Facts) -> None:
    """Leave a link to a link, through another process's root folder."""
    os.symlink(f"/proc/{facts['library_pid']}/root{best_answer(facts)}", "hop")
    os.symlink("../hop", place(facts))


def swapped_folder(facts: Facts) -> None:
    """Replace the folder by a link to a folder with a link to the answers."""
    os.mkdir("elsewhere")
    os.symlink(best_answer(facts), f"elsewhere/{facts['artefact']}")
    shutil.rmtree(FOLDER)
    os.symlink("elsewhere", FOLDER)


def answers_folder(facts: Facts) -> None:
    """Replace the folder by a link to the folder of the answers."""
    shutil.rmtree(FOLDER)
    os.symlink(os.path.dirname(best_answer(facts)), FOLDER)


def pipe(facts: Facts) -> None:
    """Leave a pipe that nobody writes into."""
    os.mkfifo(place(facts))


def listener(facts: Facts) -> None:
    """Leave a socket."""
    socket.socket(socket.AF_UNIX).bind(place(facts))


def device(facts: Facts) -> None:
    """Leave a device that never ends, or a link to one."""
    try:
        os.mknod(place(facts), 0o020666, os.makedev(1, 5))
    except OSError:
        os.symlink("/dev/zero", place(facts))


def folder(facts: Facts) -> None:
    """Leave a folder."""
    os.mkdir(place(facts))


def sparse(facts: Facts) -> None:
    """Leave a file of a terabyte, or of the largest size that is allowed, that uses no disk."""
    with open(place(facts), "wb") as file:
        for exponent in range(40, 12, -1):
            try:
                os.truncate(file.fileno(), 1 << exponent)
                return
            except OSError:
                continue


def array_bomb(facts: Facts) -> None:
    """Leave an archive of arrays that unpacks to a thousand times its size."""
    with zipfile.ZipFile(place(facts), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("predictions.npy", bytes(64 << 20))


def packed_bomb(facts: Facts) -> None:
    """Leave compressed zeros."""
    with open(place(facts), "wb") as file:
        file.write(zlib.compress(bytes(64 << 20)))


def weights(header: dict[str, Any], data: bytes = b"", length: int | None = None) -> Callable[[Facts], None]:
    """A route that leaves a safetensors file with this header."""
    text = json.dumps(header).encode()
    return leave(struct.pack("<Q", len(text) if length is None else length) + text + data)


def crowd(_facts: Facts) -> None:
    """Leave ten thousand files next to the artefact."""
    for number in range(10_000):
        os.close(os.open(f"{FOLDER}/{number}", os.O_WRONLY | os.O_CREAT))


def many(facts: Facts) -> None:
    """Leave artefacts under more names than the card allows."""
    stem, dot, end = facts["artefact"].rpartition(".")
    for number in range(500):
        with open(f"{FOLDER}/{stem}{number}{dot}{end}", "wb") as file:
            file.write(b"x")


def own_score(_facts: Facts) -> None:
    """Write files and output that say what the score is."""
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


def strange(value: float) -> Callable[[Facts], None]:
    """A route that leaves an array of this number, of the same shape as the inputs."""

    def route(facts: Facts) -> None:
        import numpy as np

        names = [name for name in sorted(os.listdir("inputs")) if name.endswith(".npy")]
        shape = np.load(f"inputs/{names[0]}").shape if names else (100,)
        buffer = io.BytesIO()
        np.save(buffer, np.full(shape, value))
        leave(buffer.getvalue())(facts)

    return route


ROUTES: dict[str, Callable[[Facts], Any]] = {
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
