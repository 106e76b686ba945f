"""Routes that hold memory or disk where no process and no folder shows it; each stops at a bound."""

from __future__ import annotations

import array
import ctypes
import json
import mmap
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

Facts = dict[str, Any]
MEBI = 1 << 20
PIECE = 16 * MEBI
HOLD_SECONDS = 2.5
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def held(what: str) -> str:
    """Wait as long as a watchdog may need, and claim that nothing has ended this process."""
    time.sleep(HOLD_SECONDS)
    return f"claim:held-{what}"


def pieces(facts: Facts) -> range:
    """Numbers of the pieces that make twice the limit."""
    return range(2 * facts["memory_mb"] * MEBI // PIECE)


def untouched(facts: Facts) -> str:
    """Shared memory that was written, and then removed from this process's page table."""
    maps = []
    for _ in pieces(facts):
        maps.append(libc.mmap(None, PIECE, 3, 0x21, -1, 0))
        ctypes.memset(maps[-1], 1, PIECE)
        libc.madvise(maps[-1], PIECE, mmap.MADV_DONTNEED)
    return held(f"{len(maps) * PIECE // MEBI}-MiB")


def by_children(facts: Facts) -> str:
    """Shared memory that children wrote, which have ended."""
    maps = []
    for _ in pieces(facts):
        maps.append(mmap.mmap(-1, PIECE))
        if os.fork() == 0:
            maps[-1].write(bytes(PIECE))
            os._exit(0)
        os.wait()
    return held(f"{len(maps) * PIECE // MEBI}-MiB")


def unmapped(facts: Facts) -> str:
    """Shared memory of which only one page is still mapped."""
    for _ in pieces(facts):
        address = libc.mmap(None, PIECE, 3, 0x21, -1, 0)
        ctypes.memset(address, 1, PIECE)
        libc.munmap(address + mmap.PAGESIZE, PIECE - mmap.PAGESIZE)
    return held(f"{2 * facts['memory_mb']}-MiB")


def without_a_leader(action: Callable[[], object]) -> bool:
    """Do something in a process whose main thread has ended; returns whether the process lasted."""
    reading, writing = os.pipe()
    if os.fork() == 0:

        def work() -> None:
            time.sleep(0.2)
            kept = action()
            time.sleep(HOLD_SECONDS)
            os.write(writing, b"1")
            os._exit(kept is None)

        threading.Thread(target=work).start()
        libc.syscall(60 if os.uname().machine == "x86_64" else 93, 0)
    os.close(writing)
    return os.read(reading, 1) == b"1"


def leaderless(facts: Facts) -> str:
    """Memory, a third of twice the limit in each of three processes whose main threads have ended."""

    def take() -> object:
        return [b"x" * PIECE for _ in range(len(pieces(facts)) // 3)]

    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(without_a_leader(take))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return f"claim:held-{2 * facts['memory_mb']}-MiB" if results == [True] * 3 else ""


def buffers(facts: Facts) -> str:
    """The buffers of sockets, in several processes, as none may open enough files."""
    reading, writing = os.pipe()
    processes = 16
    for _ in range(processes):
        if os.fork() == 0:
            size, pairs = 0, []
            while size < 2 * facts["memory_mb"] * MEBI // processes:
                pairs.append(socket.socketpair())
                pairs[-1][0].setblocking(False)
                try:
                    while True:
                        size += pairs[-1][0].send(bytes(32768))
                except BlockingIOError:
                    continue
            os.write(writing, b"1")
            time.sleep(3 * HOLD_SECONDS)
            os._exit(0)
    os.close(writing)
    marks = 0
    while marks < processes:
        piece = os.read(reading, processes)
        if not piece:
            return ""
        marks += len(piece)
    return held(f"{2 * facts['memory_mb']}-MiB")


def tables(facts: Facts) -> str:
    """Page tables: one page is read in each two mebibytes of a large empty mapping."""
    for _ in range(2 * facts["memory_mb"] * MEBI // mmap.PAGESIZE // 512):
        size = 512 * 2 * MEBI
        address = libc.mmap(None, size, 1, 0x4022, -1, 0)
        libc.madvise(address, size, 15)  # no huge pages
        for offset in range(0, size, 2 * MEBI):
            ctypes.string_at(address + offset, 1)
    return held(f"{2 * facts['memory_mb']}-MiB")


def nameless(number: int) -> int:
    """A new file of four mebibytes without a name."""
    descriptor = os.open(f"junk-{os.getpid()}-{number}", os.O_RDWR | os.O_CREAT)
    os.unlink(f"junk-{os.getpid()}-{number}")
    for _ in range(4):
        os.write(descriptor, os.urandom(MEBI))
    return descriptor


def mapped(facts: Facts) -> str:
    """Files that have no name and are not open, but mapped."""
    for number in range(4 * facts["workspace_mb"]):
        descriptor = nameless(number)
        libc.mmap(None, 4 * MEBI, 1, 1, descriptor, 0)  # (a Python map would keep the file open)
        os.close(descriptor)
    return held(f"{16 * facts['workspace_mb']}-MiB-of-files")


def leaderless_files(facts: Facts) -> str:
    """Files without a name that are open in a process whose main thread has ended."""
    if without_a_leader(lambda: [nameless(number) for number in range(4 * facts["workspace_mb"])]):
        return f"claim:held-{16 * facts['workspace_mb']}-MiB-of-files"
    return ""


def in_flight(facts: Facts) -> str:
    """Files without a name that are in messages which nobody has received."""
    ends = []
    for number in range(4 * facts["workspace_mb"]):
        descriptor = nameless(number)
        ends.append(socket.socketpair())
        ends[-1][0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))])
        os.close(descriptor)
    return held(f"{16 * facts['workspace_mb']}-MiB-of-files")


def empty_files(_facts: Facts) -> None:
    """Two million empty files, which take no room but the kernel's memory, in private folders."""
    folders = {os.environ["TMPDIR"], "/dev/shm"} if os.environ["TMPDIR"] == "/tmp" else {os.environ["TMPDIR"]}
    for folder in folders:
        if os.fork() == 0:
            for number in range(1_000_000):
                try:
                    os.close(os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT))
                except OSError:
                    break
            os._exit(0)
    for _ in folders:
        os.wait()


def branches(_facts: Facts) -> None:
    """Two folders on each of three thousand levels, so that code that walks them must remember all levels."""
    os.mkdir("junk")
    os.chdir("junk")
    for _ in range(3000):
        os.mkdir("a")
        os.mkdir("b")
        os.chdir("b")


ROUTES: dict[str, Callable[[Facts], Any]] = {
    "memory-untouched": untouched,
    "memory-of-children": by_children,
    "memory-unmapped": unmapped,
    "memory-leaderless": leaderless,
    "socket-buffers": buffers,
    "page-tables": tables,
    "mapped-files": mapped,
    "leaderless-files": leaderless_files,
    "files-in-flight": in_flight,
    "empty-files": empty_files,
    "branching-tree": branches,
}


def main(name: str) -> None:
    """Run a route without the runner, which would end it before its own limit does."""
    with open("attack_facts.json", encoding="utf-8") as file:
        facts = json.load(file)
    print(json.dumps(ROUTES[name](facts)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
