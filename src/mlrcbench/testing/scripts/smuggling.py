"""Ways to carry a word out of an evaluation: each has a side that leaves it and one that looks.

The word is taken from the environment of the method (`attack_word.txt`), which is gone when
others look for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import hashlib
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

Told = dict[str, Any]
WORD = re.compile(rb"smuggled-[0-9a-f]{32}")
SYSV = 0x41747461
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p


def word() -> str:
    """What is to be carried."""
    with open("attack_word.txt", encoding="ascii") as file:
        return file.read()


def folders(told: Told) -> list[str]:
    """Where a file could be left."""
    own = [
        ".",
        "..",
        "data",
        "outputs",
        "inputs",
        "artefacts",
        "/",
        "/tmp",
        "/var/tmp",
        "/run",
        "/dev",
        "/dev/shm",
    ]
    own += [os.environ.get("HOME", "."), told["workspace"], told["outside"], told["instance"]]
    own += [os.path.dirname(told["workspace"]), os.path.dirname(told["public"][0]), told["home"]]
    return [*own, *told["packages"]]


def leave_files(told: Told) -> None:
    """Files in every folder there is, hidden ones too."""
    for place in folders(told):
        for name in ("notes-of-attack.txt", ".notes-of-attack"):
            with contextlib.suppress(OSError), open(f"{place}/{name}", "w", encoding="ascii") as file:
                file.write(word())


def find_files(told: Told) -> list[bytes]:
    """The same files."""
    found: list[bytes] = []
    for place in folders(told):
        if place not in ("/dev/shm",):
            found += read(f"{place}/notes-of-attack.txt") + read(f"{place}/.notes-of-attack")
    return found


def read(path: str) -> list[bytes]:
    """The words in a file."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return WORD.findall(file.read(1 << 20))
    return []


def leave_shared_memory(_told: Told) -> None:
    """A file in /dev/shm."""
    with open("/dev/shm/notes-of-attack.txt", "w", encoding="ascii") as file:
        file.write(word())


def find_shared_memory(_told: Told) -> list[bytes]:
    """All files there."""
    return [one for path in glob.glob("/dev/shm/*") for one in read(path)]


def leave_sysv(_told: Told) -> None:
    """System V shared memory under a known key."""
    shared = libc.shmget(SYSV, 4096, 0o1666)
    address = libc.shmat(shared, None, 0)
    if shared < 0 or address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "shmget")
    ctypes.memmove(address, word().encode(), len(word()))


def find_sysv(_told: Told) -> bytes:
    """The same, which is then removed."""
    shared = libc.shmget(SYSV, 4096, 0)
    address = libc.shmat(shared, None, 0)
    if shared < 0 or address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "shmget")
    found = ctypes.string_at(address, 41)
    libc.shmctl(shared, 0, None)
    return found


def leave_queue(_told: Told) -> None:
    """A System V message queue."""
    queue = libc.msgget(SYSV, 0o1666)
    text = struct.pack("q", 1) + word().encode()
    if queue < 0 or libc.msgsnd(queue, text, len(word()), 0) != 0:
        raise OSError(ctypes.get_errno(), "msgget")


def find_queue(_told: Told) -> bytes:
    """The same, which is then removed."""
    queue = libc.msgget(SYSV, 0)
    buffer = ctypes.create_string_buffer(108)
    if queue < 0 or libc.msgrcv(queue, buffer, 100, 0, 0o4000) < 0:
        raise OSError(ctypes.get_errno(), "msgget")
    libc.msgctl(queue, 0, None)
    return buffer.raw


def leave_posix_queue(_told: Told) -> None:
    """A POSIX message queue."""
    library = ctypes.CDLL("librt.so.1", use_errno=True)
    queue = library.mq_open(b"/attack", os.O_CREAT | os.O_RDWR, 0o666, None)
    if queue < 0 or library.mq_send(queue, word().encode(), len(word()), 0) != 0:
        raise OSError(ctypes.get_errno(), "mq_open")


def find_posix_queue(_told: Told) -> bytes:
    """The same, which is then removed."""
    library = ctypes.CDLL("librt.so.1", use_errno=True)
    queue = library.mq_open(b"/attack", os.O_RDONLY | os.O_NONBLOCK)
    buffer = ctypes.create_string_buffer(8192)
    if queue < 0 or library.mq_receive(queue, buffer, 8192, None) < 0:
        raise OSError(ctypes.get_errno(), "mq_open")
    library.mq_unlink(b"/attack")
    return buffer.raw


def call(number: int, *arguments: Any) -> int:
    """A system call; an error is raised."""
    wide = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def leave_key(_told: Told) -> None:
    """A key in the kernel's store of this user."""
    call(248, b"user", b"notes-of-attack", word().encode(), len(word()), -4)


def find_key(_told: Told) -> bytes:
    """The same, which is then removed."""
    key = call(250, 10, -4, b"user", b"notes-of-attack", 0)
    buffer = ctypes.create_string_buffer(100)
    call(250, 11, key, buffer, 100, 0)
    call(250, 9, key, -4, 0, 0)
    return buffer.raw


def leave_times(told: Told) -> None:
    """The time of a public file, which holds seven bytes."""
    data = bytes.fromhex(word().removeprefix("smuggled-"))
    os.utime(told["public"][0], ns=(time.time_ns(), int.from_bytes(data[:7], "big")))


def find_times(told: Told) -> str:
    """The same: the word's first seven bytes, as a fact that the host can check."""
    carried = str(os.stat(told["public"][0]).st_mtime_ns)
    return f"fact:times-{hashlib.sha256(carried.encode()).hexdigest()[:40]}"


def marked(told: Told) -> list[str]:
    """Files and folders that could carry an attribute."""
    folder = os.path.dirname(told["public"][0])
    return [*told["public"], folder, told["outside"], told["instance"], sys.executable]


def leave_attribute(told: Told) -> None:
    """An extended attribute of public files and of folders."""
    first: OSError | None = None
    for path in marked(told):
        try:
            os.setxattr(path, "user.attack", word().encode())
        except OSError as error:
            first = first or error
    if first is not None:
        raise first


def find_attribute(told: Told) -> list[bytes]:
    """The same."""
    found = []
    for path in marked(told):
        with contextlib.suppress(OSError):
            found.append(os.getxattr(path, "user.attack"))
    return found


def leave_process(_told: Told) -> None:
    """A process that waits, and tells the word to whoever connects."""
    script = (
        "import os, socket, sys, time\n"
        "os.setsid()\n"
        "server = socket.socket(socket.AF_UNIX)\n"
        "server.bind('\\0notes-of-attack')\nserver.listen()\nserver.settimeout(20)\n"
        "end = time.monotonic() + 20\n"
        "while time.monotonic() < end:\n"
        "    client, _ = server.accept()\n    client.sendall(sys.argv[1].encode())\n    client.close()\n"
    )
    subprocess.Popen(
        [sys.executable, "-c", script, word()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(0.3)


def find_process(_told: Told) -> bytes:
    """The same; or its arguments, as others see them."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        client.connect("\0notes-of-attack")
        return client.recv(100)


def leave_name(_told: Told) -> None:
    """The machine's name, and the terminal's, and the text of a lock."""
    data = word().encode()
    if libc.sethostname(data, len(data)) != 0:
        raise OSError(ctypes.get_errno(), "sethostname")


def find_name(_told: Told) -> str:
    """The same."""
    return socket.gethostname()


def leave_output(_told: Told) -> None:
    """What the evaluation prints, much of it, so that it is kept in a file."""
    for _ in range(4000):
        print(word())


def find_output(told: Told) -> list[bytes]:
    """Outputs that can be read."""
    found: list[bytes] = []
    for place in ("outputs", ".", "..", os.path.dirname(told["records"][0])):
        for path in glob.glob(f"{place}/**/*.txt", recursive=True)[:200]:
            found += read(path)
    return found


_NAMES: dict[str, tuple[Callable[[Told], Any], Callable[[Told], Any]]] = {
    "files": (leave_files, find_files),
    "dev-shm": (leave_shared_memory, find_shared_memory),
    "sysv-memory": (leave_sysv, find_sysv),
    "sysv-queue": (leave_queue, find_queue),
    "posix-queue": (leave_posix_queue, find_posix_queue),
    "keyring": (leave_key, find_key),
    "file-times": (leave_times, find_times),
    "attributes": (leave_attribute, find_attribute),
    "process": (leave_process, find_process),
    "hostname": (leave_name, find_name),
    "output": (leave_output, find_output),
}
ROUTES: dict[str, Callable[[Told], Any]] = {
    **{f"leave-{name}": sides[0] for name, sides in _NAMES.items()},
    **{f"find-{name}": sides[1] for name, sides in _NAMES.items()},
}
