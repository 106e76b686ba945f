"""Attacks inside a played evaluation: what a player does to its channel and its answers."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import random
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

_COUNT = 256  # of the template's numbers
_LONG = 600  # seconds, after which an attack has hung the game
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ


def frame(header: bytes, body: bytes = b"") -> bytes:
    """A frame on the wire."""
    return struct.pack("<II", len(header), len(body)) + header + body


def with_array(name: str, array: npt.NDArray[Any]) -> bytes:
    """A frame with one array."""
    return frame(json.dumps({"arrays": {name: [array.dtype.str, array.shape]}}).encode(), array.tobytes())


def send(data: bytes) -> Callable[[], None]:
    """A turn in which these bytes are written to the oracle."""

    def turn() -> None:
        unsent = data
        while unsent:
            unsent = unsent[os.write(4, unsent) :]

    return turn


HONEST = with_array("guesses", np.full(_COUNT, 512))
FORGED = b"N" + with_array("distances", np.zeros(_COUNT, dtype=np.int64))  # a perfect note


def be_silent() -> None:
    """Do nothing for longer than the game may take."""
    time.sleep(_LONG)


def flood() -> None:
    """Write without end."""
    while True:
        os.write(4, bytes(1 << 16))


def trickle() -> None:
    """Write an answer slowly."""
    for byte in HONEST:
        os.write(4, bytes([byte]))
        time.sleep(0.5)


def write_half() -> None:
    """Begin an answer and do not end it."""
    send(HONEST[:-1])()
    time.sleep(_LONG)


def leave_child() -> None:
    """End, and leave a process that holds the channel."""
    if os.fork():
        os._exit(0)
    os.setsid()
    time.sleep(_LONG)


def write_twice() -> None:
    """Write from two processes at once."""
    os.fork()
    for _ in range(1000):
        os.write(4, os.urandom(64))


def reopen() -> None:
    """Write questions to itself, and take its own answers back."""
    with contextlib.suppress(OSError):
        os.write(os.open("/proc/self/fd/3", os.O_WRONLY | os.O_NONBLOCK), FORGED)
    with contextlib.suppress(OSError):
        os.read(os.open("/proc/self/fd/4", os.O_RDONLY | os.O_NONBLOCK), 1 << 16)


def hold() -> None:
    """Keep the channel open after the game."""
    with contextlib.suppress(OSError):
        os.open("/proc/self/fd/3", os.O_WRONLY | os.O_NONBLOCK)
    atexit.register(time.sleep, _LONG)


def forge_files() -> None:
    """Leave transcripts where the real one could be looked for."""
    for name in ("transcript", "../transcript", "notes", "score.json"):
        with contextlib.suppress(OSError), open(f"artefacts/{name}", "wb") as file:
            file.write(FORGED)


def print_frames() -> None:
    """Write notes to the standard output."""
    sys.stdout.buffer.write(FORGED * 10_000)
    sys.stdout.flush()


def change_pipes() -> None:
    """Make both pipes small, and its own ends non-blocking."""
    for number in (3, 4):
        fcntl.fcntl(number, _SET_PIPE_SIZE, 4096)
        os.set_blocking(number, False)


def answer_extremely() -> None:
    """Send guesses of an extreme kind."""
    shapes: list[npt.NDArray[Any]] = [
        np.zeros(0, dtype=np.int64),
        np.zeros((_COUNT, 1), dtype=np.int64),
        np.zeros(_COUNT, dtype=np.int32),
        np.full(_COUNT, np.nan),
        np.full(_COUNT, 1e308),
        np.full(_COUNT, 2**63 - 1),
        np.full(_COUNT, -(2**63)),
    ]
    send(with_array("guesses", random.choice(shapes)))()


TURNS: dict[str, Callable[[], None]] = {
    "silence": be_silent,
    "flood": flood,
    "trickle": trickle,
    "doubled-answer": send(HONEST * 2),
    "half-a-frame": write_half,
    "giant-lengths": send(b"\xff" * 8),
    "giant-body": send(struct.pack("<II", 2, 1 << 31) + b"{}" + bytes(1 << 20)),
    "lying-array": send(frame(b'{"arrays": {"guesses": ["<i8", [1000000000, 1000000000]]}}')),
    "deep-message": send(frame(b"[" * 65_000)),
    "no-json": send(frame(b'{"a": NaN, "a": 1}')),
    "close-the-channel": lambda: os.close(4),
    "leave-the-game": lambda: os._exit(0),
    "leave-a-child-in-the-game": leave_child,
    "two-writers": write_twice,
    "own-questions": reopen,
    "hold-the-channel": hold,
    "forged-transcript": forge_files,
    "frames-on-stdout": print_frames,
    "shrunken-pipes": change_pipes,
    "extreme-answers": answer_extremely,
}


def play(name: str, method: Any) -> None:
    """Let a method carry out an attack in its second turn, before it answers."""
    turn, honest = 0, method.guess

    def guess(self: Any, signs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        nonlocal turn
        turn += 1
        if turn == 2:
            TURNS[name]()
        answer: npt.NDArray[Any] = honest(self, signs)
        return answer

    method.guess = guess
