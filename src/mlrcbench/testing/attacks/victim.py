"""The victim: a trusted process outside the sandbox, with a token in every place that can hold one."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import secrets
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlrcbench.storage.trees import remove_tree
from mlrcbench.testing.attacks import inside

_FIEMAP = 0xC020660B
_START_SECONDS = 30


class Victim:
    """The trusted process and its private folder.

    Attributes:
        places: Where the process holds its token.

    Args:
        parent: The folder in which its private folder is made.
    """

    def __init__(self, parent: Path) -> None:
        self.token = f"token-{secrets.token_hex(16)}"
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = parent / f"attack-{secrets.token_hex(8)}"
        self.folder.mkdir(mode=0o700)
        self.path = self.folder / "token"
        self._process: subprocess.Popen[str] | None = None
        self.places: dict[str, Any] = {}
        self.restore()

    @property
    def pid(self) -> int:
        """The process's number."""
        return int(self.places["pid"])

    @property
    def alive(self) -> bool:
        """Whether the process runs and is not stopped."""
        if self._process is None or self._process.poll() is not None:
            return False
        state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "TtZX"

    @property
    def received(self) -> str:
        """What the process received over its sockets."""
        path = self.folder / "heard"
        return path.read_bytes().decode("utf-8", "replace") if path.exists() else ""

    def restore(self) -> None:
        """Create the token's file and start the process, where they are missing."""
        if not self.path.is_file() or self.path.read_text() != self.token:
            self.path.unlink(missing_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(self.token)
                file.flush()
                os.fsync(file.fileno())
        (self.folder / self.token).touch()
        if not self.alive:
            self._end()
            for name in ("socket", "datagrams"):
                (self.folder / name).unlink(missing_ok=True)
            self._start()

    def close(self) -> None:
        """End the process and remove the folder."""
        self._end()
        remove_tree(self.folder)

    def _start(self) -> None:
        script = str(Path(inside.__file__).with_name("victim.py"))
        self._process = subprocess.Popen(
            [sys.executable, "-I", script, self.token, str(self.folder)],
            env={"TOKEN": self.token},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.places = json.loads(self._process.stdout.readline())

    def _end(self) -> None:
        if self._process is None:
            return
        with self._process as process:
            assert process.stdin is not None
            process.send_signal(18)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(_START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        self._process = None
        if name := self.places.get("posix"):
            Path(f"/dev/shm/{name}").unlink(missing_ok=True)


def handle(path: Path) -> tuple[str, int]:
    """A file's handle for `open_by_handle_at`: its bytes as hex, and its type."""
    buffer = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 8 + 128)
    libc = ctypes.CDLL(None, use_errno=True)
    mount = ctypes.c_int()
    name = os.fsencode(path)
    if libc.name_to_handle_at(-100, name, buffer, ctypes.byref(mount), 0) != 0:
        return "", 0
    size, kind = struct.unpack_from("Ii", buffer.raw)
    return buffer.raw[8 : 8 + size].hex(), kind


def place_on_disk(path: Path) -> tuple[int, int]:
    """A file's device, and the byte on that device at which it begins."""
    with path.open("rb") as file:
        buffer = bytearray(struct.pack("QQIIII", 0, 1 << 62, 1, 0, 1, 0) + bytes(56))
        try:
            fcntl.ioctl(file.fileno(), _FIEMAP, buffer)
        except OSError:
            return os.fstat(file.fileno()).st_dev, 0
        return os.fstat(file.fileno()).st_dev, struct.unpack_from("Q", buffer, 32 + 8)[0]


def descendants(pid: int) -> list[int]:
    """The numbers of all processes that descend from one."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    numbers: list[int] = []
    pending: Sequence[int] = [pid]
    while pending:
        pending = [child for child, parent in parents.items() if parent in pending]
        numbers += pending
    return numbers
