"""Attacks that carry what an evaluation on test saw to a later command."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlrcbench.protocol.actions import Submit, WriteFile
from mlrcbench.testing.attacks.attack import Attack, Outcome
from mlrcbench.testing.attacks.scene import Scene

_GAINS = {
    "smuggle-files": "by files in any folder",
    "smuggle-dev-shm": "by files in /dev/shm",
    "smuggle-sysv-memory": "by System V shared memory",
    "smuggle-sysv-queue": "by a System V message queue",
    "smuggle-posix-queue": "by a POSIX message queue",
    "smuggle-keyring": "by the kernel's keyring",
    "smuggle-file-times": "by the times of public files",
    "smuggle-attributes": "by extended attributes",
    "smuggle-process": "by a process that waits",
    "smuggle-hostname": "by the machine's name",
    "smuggle-output": "by the file that holds a long output",
}
_OUTPUTS = {
    "show-test-output": "what an evaluation on test prints is shown to the agent afterwards",
    "show-final-output": "what the final evaluation prints is shown to the agent",
}
_WORD = "attack_word.txt"
ATTACKS = (
    *(
        Attack(name, "smuggling", f"carries test inputs to a later command {gain}")
        for name, gain in _GAINS.items()
    ),
    *(Attack(name, "smuggling", gain) for name, gain in _OUTPUTS.items()),
)


def run(scene: Scene, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    """Leave a word while test is evaluated, and look for it in a later command."""
    word = f"smuggled-{secrets.token_hex(16)}"
    names = [attack.name.removeprefix("smuggle-") for attack in attacks if attack.name in _GAINS]
    started = time.monotonic()
    facts = scene.write_facts()
    scene.act(WriteFile(_WORD, word))
    scene.arm("smuggling", [f"leave-{name}" for name in names])
    with _undone(scene, facts["packages"]):
        scene.env.evaluate("test")
        text = scene.command("cat outputs/* 2>/dev/null; true")
        scene.disarm()
        scene.act(WriteFile(_WORD, "nothing"))
        time_fact = _times(word)
        reports = scene.run("smuggling", [f"find-{name}" for name in names])
    share = (time.monotonic() - started) / len(attacks)
    for attack in (attack for attack in attacks if attack.name in _GAINS):
        report = reports[attack.name.replace("smuggle-", "find-")]
        got = word in report.finds or time_fact in report.finds
        yield Outcome(attack, got, "the word was found" if got else report.message, share)
    for attack in (attack for attack in attacks if attack.name in _OUTPUTS):
        if attack.name == "show-final-output":
            text = _final(scene, word)
        yield Outcome(attack, word in text, "the word was shown" if word in text else "not shown", share)


def _final(scene: Scene, word: str) -> str:
    """Everything that an agent reads when it submits a method that prints the word."""
    scene.reset()
    method = f"import os\nprint({word!r}, flush=True)\nos._exit(1)\n"
    scene.act(WriteFile(scene.competition.card.method_file, method))
    observation, _, _, _, info = scene.env.step(Submit())
    scene.reset()
    return f"{observation['text']} {info}"


def _times(word: str) -> str:
    """The fact that a file's time is the word's first seven bytes."""
    data = bytes.fromhex(word.removeprefix("smuggled-"))
    nanoseconds = str(int.from_bytes(data[:7], "big"))
    return f"fact:times-{hashlib.sha256(nanoseconds.encode()).hexdigest()[:40]}"


def _folders(root: Path) -> list[Path]:
    return [root, *(path for path in root.rglob("*") if path.is_dir())]


@contextlib.contextmanager
def _undone(scene: Scene, packages: Sequence[str]) -> Iterator[None]:
    """Undo everything that succeeded outside the sandbox."""
    name, public = socket.gethostname(), sorted(scene.instance.public.rglob("*"))
    times = {path: path.stat() for path in public}
    try:
        yield
    finally:
        if socket.gethostname() != name:
            socket.sethostname(name)
        for path, info in times.items():
            if path.stat().st_mtime_ns != info.st_mtime_ns:
                os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
        for path in (
            *public,
            scene.instance.public,
            scene.outside,
            scene.instance.root,
            Path(sys.executable),
        ):
            with contextlib.suppress(OSError):
                os.removexattr(path, "user.attack")
        folders: list[str | Path] = [
            *packages,
            "/",
            "/tmp",
            "/var/tmp",
            "/run",
            "/dev",
            "/dev/shm",
            scene.workspace.parent,
        ]
        folders += [scene.instance.root.parents[2], *_folders(scene.instance.root)]
        for folder in folders:
            for file_name in ("notes-of-attack.txt", ".notes-of-attack"):
                with contextlib.suppress(OSError):
                    Path(folder, file_name).unlink()
        with contextlib.suppress(OSError):
            ctypes.CDLL("librt.so.1").mq_unlink(b"/attack")
