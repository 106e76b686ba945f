"""Processes that try to outlive the command that started them.

Each writes a heartbeat into the workspace several times a second, and has a mark among its arguments
and environment variables, by which the host finds it.
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

Facts = dict[str, Any]
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


def heart(facts: Facts, name: str, *, ignored: str = "()", before: tuple[str, ...] = ()) -> list[str]:
    """The command of a process with a heartbeat."""
    mark = facts["marks"][name]
    return [
        *before,
        sys.executable,
        "-S",
        "-c",
        HEART.format(ignored=ignored),
        f"{facts['workspace']}/{mark}",
    ]


def start(command: list[str], mark: str, **options: Any) -> None:
    """Start a process without waiting for its end."""
    variables = {**os.environ, "MARK": mark}
    nothing = subprocess.DEVNULL
    settings = {"stdin": nothing, "stdout": nothing, "stderr": nothing, **options}
    subprocess.Popen(command, env=variables, **settings)
    time.sleep(0.1)


def detached(facts: Facts) -> None:
    """A process in its own session."""
    start(heart(facts, "setsid"), facts["marks"]["setsid"], start_new_session=True)


def orphaned(facts: Facts) -> None:
    """A process that was forked twice, so that its parent is gone."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            start(heart(facts, "double-fork"), facts["marks"]["double-fork"])
            os._exit(0)
        os._exit(0)
    time.sleep(0.2)


def deaf(facts: Facts) -> None:
    """A process that ignores hang-up, interrupt, quit and the request to end."""
    command = heart(facts, "nohup", ignored="(1, 2, 3, 15)", before=("nohup",))
    start(command, facts["marks"]["nohup"], start_new_session=True)


def talkative(facts: Facts) -> None:
    """A process that holds the command's output open."""
    command = heart(facts, "held-output")
    start(command, facts["marks"]["held-output"], start_new_session=True, stdout=None, stderr=None)


def adopted(facts: Facts) -> None:
    """A process below one that adopts orphans instead of the supervisor."""
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
        os.setsid()
        start(heart(facts, "subreaper"), facts["marks"]["subreaper"], start_new_session=True)
        time.sleep(30)
    time.sleep(0.3)


def stopped(facts: Facts) -> None:
    """A process that is stopped and never continued."""
    process = subprocess.Popen(
        heart(facts, "stopped"), env={**os.environ, "MARK": facts["marks"]["stopped"]}, start_new_session=True
    )
    time.sleep(0.2)
    process.send_signal(signal.SIGSTOP)


def leaderless(facts: Facts) -> None:
    """A process whose main thread has ended, so that it looks as if it were dead."""
    code = (
        "import ctypes, os, sys, threading, time\n"
        "def beat():\n"
        "    end = time.monotonic() + 60\n"
        "    while time.monotonic() < end:\n"
        "        with open(sys.argv[1], 'a') as file:\n"
        "            file.write('.')\n"
        "        time.sleep(0.05)\n"
        "threading.Thread(target=beat).start()\n"
        "ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)\n"
    )
    mark = facts["marks"]["leaderless"]
    start([sys.executable, "-S", "-c", code, f"{facts['workspace']}/{mark}"], mark, start_new_session=True)


def crowd(facts: Facts) -> None:
    """A dozen processes at once, while their parent dies."""
    for _ in range(12):
        start(heart(facts, "crowd"), facts["marks"]["crowd"], start_new_session=True)


def chain(facts: Facts) -> None:
    """A chain of processes that changes its number and session all the time, by forking and ending."""
    mark = f"{facts['workspace']}/{facts['marks']['fork-chain']}"
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


def swap(facts: Facts) -> None:
    """A process that swaps an honest artefact for a link to the answers, again and again."""
    artefact, answer = (
        f"artefacts/{facts['artefact']}",
        next(p for p in facts["answers"] if "/dev/answers/" in p),
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
    start(
        [sys.executable, "-S", "-c", code, artefact, answer], facts["marks"]["swap"], start_new_session=True
    )


ROUTES: dict[str, Callable[[Facts], Any]] = {
    "setsid": detached,
    "double-fork": orphaned,
    "nohup": deaf,
    "held-output": talkative,
    "subreaper": adopted,
    "stopped": stopped,
    "leaderless": leaderless,
    "crowd": crowd,
    "fork-chain": chain,
    "swap": swap,
}
