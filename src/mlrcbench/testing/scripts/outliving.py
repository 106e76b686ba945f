"""Processes that try to outlive the command that started them.

Each writes a heartbeat into the workspace several times a second, and carries a mark among its
arguments and variables, by which the host looks for it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

Told = dict[str, Any]
HEART = (
    "import os, signal, sys, time\n"
    "for number in {ignored}:\n"
    "    signal.signal(number, signal.SIG_IGN)\n"
    "end = time.monotonic() + 60\n"
    "while time.monotonic() < end:\n"
    "    with open(sys.argv[1], 'a') as file:\n"
    "        file.write('.')\n"
    "    time.sleep(0.05)\n"
)


def heart(told: Told, name: str, *, ignored: str = "()", before: tuple[str, ...] = ()) -> list[str]:
    """The command of a process with a heartbeat."""
    mark = told["marks"][name]
    return [
        *before,
        sys.executable,
        "-S",
        "-c",
        HEART.format(ignored=ignored),
        f"{told['workspace']}/{mark}",
    ]


def start(words: list[str], mark: str, **more: Any) -> None:
    """Start it without waiting."""
    variables = {**os.environ, "MARK": mark}
    nothing = subprocess.DEVNULL
    settings = {"stdin": nothing, "stdout": nothing, "stderr": nothing, **more}
    subprocess.Popen(words, env=variables, **settings)
    time.sleep(0.1)


def detached(told: Told) -> None:
    """In a session of its own."""
    start(heart(told, "setsid"), told["marks"]["setsid"], start_new_session=True)


def orphaned(told: Told) -> None:
    """Twice forked, so that its parent is gone."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            start(heart(told, "double-fork"), told["marks"]["double-fork"])
            os._exit(0)
        os._exit(0)
    time.sleep(0.2)


def deaf(told: Told) -> None:
    """Deaf to hang-up, interrupt and the request to end."""
    words = heart(told, "nohup", ignored="(1, 2, 3, 15)", before=("nohup",))
    start(words, told["marks"]["nohup"], start_new_session=True)


def talkative(told: Told) -> None:
    """Holding the command's output open."""
    words = heart(told, "held-output")
    start(words, told["marks"]["held-output"], start_new_session=True, stdout=None, stderr=None)


def adopted(told: Told) -> None:
    """Below a process that adopts orphans in the supervisor's stead."""
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
        os.setsid()
        start(heart(told, "subreaper"), told["marks"]["subreaper"], start_new_session=True)
        time.sleep(30)
    time.sleep(0.3)


def stopped(told: Told) -> None:
    """Stopped at first, and woken by nobody."""
    process = subprocess.Popen(
        heart(told, "stopped"), env={**os.environ, "MARK": told["marks"]["stopped"]}, start_new_session=True
    )
    time.sleep(0.2)
    process.send_signal(signal.SIGSTOP)


def crowd(told: Told) -> None:
    """A dozen at once, while their parent dies."""
    for _ in range(12):
        start(heart(told, "crowd"), told["marks"]["crowd"], start_new_session=True)


def chain(told: Told) -> None:
    """A chain that changes its number and session all the time, by forking and ending."""
    mark = f"{told['workspace']}/{told['marks']['fork-chain']}"
    for _ in range(3):
        if os.fork() == 0:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                if os.fork() != 0:
                    os._exit(0)
                os.setsid()
                with open(mark, "a", encoding="ascii") as file:
                    file.write(".")
                time.sleep(0.001)
            os._exit(0)
    time.sleep(0.2)


def swap(told: Told) -> None:
    """A process that swaps an honest artefact for a link to the answers, again and again."""
    artefact, answer = (
        f"artefacts/{told['artefact']}",
        next(p for p in told["answers"] if "/dev/answers/" in p),
    )
    code = (
        "import os, sys, time\n"
        "end = time.monotonic() + 20\n"
        "while time.monotonic() < end:\n"
        "    for make in (lambda p: open(p, 'wb').close(), lambda p: os.symlink(sys.argv[2], p)):\n"
        "        try:\n            make(sys.argv[1] + '.new')\n"
        "            os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "        except OSError:\n            pass\n"
    )
    start([sys.executable, "-S", "-c", code, artefact, answer], told["marks"]["swap"], start_new_session=True)


ROUTES: dict[str, Callable[[Told], Any]] = {
    "setsid": detached,
    "double-fork": orphaned,
    "nohup": deaf,
    "held-output": talkative,
    "subreaper": adopted,
    "stopped": stopped,
    "crowd": crowd,
    "fork-chain": chain,
    "swap": swap,
}
