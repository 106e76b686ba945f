"""Routes that use up resources; each stops by itself at a bound that it should not reach."""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

Facts = dict[str, Any]
MEBI = 1 << 20


def touch(megabytes: int) -> list[mmap.mmap]:
    """Use this much memory, page by page."""
    held = []
    for _ in range(megabytes // 16):
        piece = mmap.mmap(-1, 16 * MEBI)
        for offset in range(0, 16 * MEBI, 4096):
            piece[offset] = 1
        held.append(piece)
    return held


def memory(facts: Facts) -> str:
    """Use twice the limit in one process."""
    held = touch(2 * facts["memory_mb"])
    return f"claim:held-{len(held) * 16}-MiB"


def memory_together(facts: Facts) -> str:
    """Use twice the limit in six processes together; it counts once all of them hold their part."""
    ready, report = os.pipe()
    for _ in range(6):
        if os.fork() == 0:
            pieces = touch(facts["memory_mb"] // 3)
            os.write(report, b"1")
            time.sleep(20)
            os._exit(len(pieces) == 0)
    os.close(report)
    held = 0
    while held < 6 and (marks := os.read(ready, 6)):
        held += len(marks)
    time.sleep(1)
    alive = 0
    for _ in range(6):
        with contextlib.suppress(ChildProcessError):
            alive += os.waitpid(-1, os.WNOHANG) == (0, 0)
    return "claim:held-together" if alive == 6 else ""


def memory_file(facts: Facts) -> str:
    """Use twice the limit in files that exist in memory only."""
    written = 0
    for _ in range(8):
        descriptor = os.memfd_create("attack")
        for _ in range(2 * facts["memory_mb"] // 8 // 4):
            written += os.write(descriptor, bytes(4 * MEBI))
    return f"claim:held-{written // MEBI}-MiB"


def shared_memory(facts: Facts) -> str:
    """Use twice the limit in /dev/shm."""
    written = 0
    for number in range(8):
        with open(f"/dev/shm/{facts['marker']}-{number}", "wb", buffering=0) as file:
            for _ in range(2 * facts["memory_mb"] // 8 // 4):
                written += file.write(bytes(4 * MEBI))
    return f"claim:held-{written // MEBI}-MiB"


def temporary(facts: Facts) -> str:
    """Write four times the workspace's limit, or a gigabyte, into the folder for temporary files."""
    written, folder = 0, os.environ.get("TMPDIR", "/tmp")
    megabytes = max(4 * facts["workspace_mb"], 1024)
    for number in range(8):
        with open(f"{folder}/{facts['marker']}-{number}", "wb", buffering=0) as file:
            for _ in range(megabytes // 8 // 4):
                written += file.write(bytes(4 * MEBI))
    return f"claim:wrote-{written // MEBI}-MiB"


def disk(facts: Facts) -> None:
    """Write sixteen times the workspace's limit into many of its files."""
    for number in range(64):
        with open(f"junk-{os.getpid()}-{number}", "wb", buffering=0) as file:
            for _ in range(max(1, facts["workspace_mb"] // 4)):
                file.write(bytes(MEBI))


def one_file(facts: Facts) -> str:
    """Write sixteen times the workspace's limit into a deleted file, which no listing shows."""
    written = 0
    descriptor = os.open("junk", os.O_RDWR | os.O_CREAT)
    os.unlink("junk")
    for _ in range(16 * facts["workspace_mb"]):
        written += os.write(descriptor, bytes(MEBI))
    time.sleep(1)
    return f"claim:wrote-{written // MEBI}-MiB"


def small_files(_facts: Facts) -> None:
    """Make a hundred thousand files."""
    os.mkdir("junk")
    for number in range(100_000):
        os.close(os.open(f"junk/{number}", os.O_WRONLY | os.O_CREAT))


def deep_tree(_facts: Facts) -> None:
    """Make three thousand folders, each inside the previous one."""
    os.mkdir("junk")
    os.chdir("junk")
    for _ in range(3000):
        os.mkdir("d")
        os.chdir("d")


def locked_tree(_facts: Facts) -> None:
    """Make folders that nobody may enter, with names that are hard to handle."""
    os.mkdir("junk")
    for name in ("\n", "-rf", "é" * 100, "a" * 255, "\\", "'", "$(touch x)"):
        os.mkdir(f"junk/{name}")
        with open(f"junk/{name}/f", "wb"):
            pass
    os.mkdir(b"junk/\xff\xfe")
    for name in os.listdir("junk"):
        os.chmod(f"junk/{name}", 0)
    os.chmod("junk", 0)


def output(_facts: Facts) -> None:
    """Print a gigabyte in short lines."""
    line = b"x" * 63 + b"\n"
    piece = line * 16384
    for _ in range(1024):
        os.write(1, piece)


def one_line(_facts: Facts) -> None:
    """Print a quarter of a gigabyte without a line's end, of bytes that are not text."""
    for _ in range(256):
        os.write(1, b"\xff" * MEBI)


def busy(_facts: Facts) -> None:
    """Run forty busy loops that ignore the request to end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for _ in range(40):
        if os.fork() == 0:
            while True:
                pass
    time.sleep(1000)


def sleep(_facts: Facts) -> None:
    """Sleep for longer than allowed, and ignore every signal that can be ignored."""
    for number in range(1, 32):
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_IGN)
    time.sleep(1000)


def processes(facts: Facts) -> str:
    """Start twice as many processes as allowed, at once."""
    alive = 0
    for _ in range(2 * facts["processes"]):
        try:
            child = os.fork()
        except OSError:
            break
        if child == 0:
            time.sleep(6)
            os._exit(0)
        alive += 1
    time.sleep(1.5)
    return f"claim:{alive}-processes" if alive >= 2 * facts["processes"] else ""


def bomb(_facts: Facts) -> None:
    """Start processes that start processes."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            os.fork()


def descriptors(_facts: Facts) -> None:
    """Open as many files as possible, in many processes."""
    for _ in range(8):
        if os.fork() == 0:
            with contextlib.suppress(OSError):
                while True:
                    os.pipe()
            time.sleep(3)
            os._exit(0)
    time.sleep(1)


def crash(_facts: Facts) -> None:
    """Leave a core dump."""
    subprocess.run([sys.executable, "-c", "import ctypes; ctypes.string_at(0)"], check=False)
    os.kill(os.getpid(), signal.SIGABRT)


def supervisor(_facts: Facts) -> None:
    """Confuse the supervisor: ask to be traced, and stop itself and others."""
    ctypes.CDLL(None).ptrace(0, 0, 0, 0)
    for _ in range(5):
        if os.fork() == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
    os.kill(os.getppid(), signal.SIGSTOP)
    os.kill(0, signal.SIGSTOP)


ROUTES: dict[str, Callable[[Facts], Any]] = {
    "memory": memory,
    "memory-together": memory_together,
    "memory-file": memory_file,
    "memory-dev-shm": shared_memory,
    "temporary-files": temporary,
    "disk": disk,
    "disk-in-bursts": disk,
    "deleted-file": one_file,
    "small-files": small_files,
    "deep-tree": deep_tree,
    "locked-tree": locked_tree,
    "output": output,
    "output-one-line": one_line,
    "busy-loops": busy,
    "sleep": sleep,
    "processes": processes,
    "fork-bomb": bomb,
    "descriptors": descriptors,
    "core-dump": crash,
    "stop-all": supervisor,
}


def main(name: str) -> None:
    """Run a route without the runner, which would end it before its own limit does."""
    with open("attack_facts.json", encoding="utf-8") as file:
        facts = json.load(file)
    print(json.dumps(ROUTES[name](facts)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
