"""Attacks that take from the library, and from everybody else, what a user or a machine has only once."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from mlrcbench.protocol.actions import KillJob, StartJob, WaitJob
from mlrcbench.testing.attacks.attack import Attack, Outcome
from mlrcbench.testing.attacks.scene import Scene

_SECONDS = 5.0
_X86 = os.uname().machine == "x86_64"
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def run(scene: Scene, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    """Run each attack as a job, and use the same thing from outside meanwhile."""
    if not scene.env.runs_jobs:
        for attack in attacks:
            yield Outcome(attack, False, "not run: this sandbox runs no jobs", ran=False)
        return
    for attack in attacks:
        started = time.monotonic()
        facts = scene.write_facts()
        match = re.match(
            r"job (\d+) has started", scene.act(StartJob(f"python attack_sharing.py {attack.name}"))
        )
        assert match is not None
        number = int(match[1])
        scene.act(WaitJob(number, "match", "ATTACK-READY", max_seconds=10.0))
        trouble = ""
        try:
            _CHECKS[attack.name](facts["public"])
        except OSError as error:
            trouble = f"outside, it fails with: {error}"
        except subprocess.TimeoutExpired:
            trouble = f"outside, it takes more than {_SECONDS:g} s"
        trouble = trouble or scene.usable()
        scene.act(KillJob(number))
        evidence = trouble or "it works as before outside"
        yield Outcome(attack, bool(trouble), evidence, time.monotonic() - started)


def _pass_a_descriptor(_public: Sequence[str]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(ours, [b"x"], [ours.fileno()])


def _open_public_files(public: Sequence[str]) -> None:
    code = (
        "import sys\nfor path in sys.argv[1:]:\n    open(path, 'rb').close()\n    open(path, 'r+b').close()"
    )
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *public], timeout=_SECONDS, check=False, stderr=-3
    )


def _reserve_requests(_public: Sequence[str]) -> None:
    context = ctypes.c_ulong(0)
    _checked(_libc.syscall(206 if _X86 else 0, 64, ctypes.byref(context)), "io_setup")
    _libc.syscall(207 if _X86 else 1, context)


def _watch(_public: Sequence[str]) -> None:
    os.close(_checked(_libc.inotify_init(), "inotify_init"))


def _make_timer(_public: Sequence[str]) -> None:
    timer = ctypes.c_void_p()
    _checked(_libc.timer_create(1, None, ctypes.byref(timer)), "timer_create")
    with contextlib.suppress(OSError):
        _libc.timer_delete(timer)


def _checked(result: int, call: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")
    return result


_GAINS: dict[str, tuple[str, Callable[[Sequence[str]], None]]] = {
    "descriptors-of-the-user": (
        "leaves nobody of its user a descriptor to send, so that commands fail",
        _pass_a_descriptor,
    ),
    "leases": ("makes everybody wait who opens public data", _open_public_files),
    "asynchronous-requests": ("leaves the machine no asynchronous requests", _reserve_requests),
    "watches-of-the-user": ("leaves nobody of its user a group of file watches", _watch),
    "timers-of-the-user": ("leaves nobody of its user a timer", _make_timer),
}
_CHECKS = {name: check for name, (_, check) in _GAINS.items()}
ATTACKS = tuple(Attack(name, "shared supplies", gain) for name, (gain, _) in _GAINS.items())
