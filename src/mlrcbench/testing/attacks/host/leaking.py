"""Attacks that carry test inputs out of an evaluation by what the commands of all episodes share."""

from __future__ import annotations

import contextlib
import secrets
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlrcbench.protocol.actions import WriteFile
from mlrcbench.testing.attacks.attack import Attack, Outcome
from mlrcbench.testing.attacks.scene import Scene

_PAGES = {
    "pages-nowait": "by which pages of a file can be read without waiting",
    "pages-mincore": "by which pages of a mapped file are in memory",
    "pages-cachestat": "by how many pages of a file are in memory",
}
_CHANNELS = {
    "file-locks": "by locks on files that both can read",
    "record-locks": "by locks on parts of files that both can read",
    "lock-table": "by the kernel's list of locks",
    "file-watches": "by watching which files are read",
}
_WORD = "attack_word.txt"
_LARGE = 16 << 20  # see `SPACING` and `BITS` inside
ATTACKS = (
    *(
        Attack(name, "leaking", f"carries test inputs to a later command {way}")
        for name, way in _PAGES.items()
    ),
    *(
        Attack(name, "leaking", f"carries test inputs to a command of another episode {way}")
        for name, way in _CHANNELS.items()
    ),
)


def run(scene: Scene, attacks: Sequence[Attack]) -> Iterator[Outcome]:
    """Leave a number while test is evaluated, and look for it later, or meanwhile in another episode."""
    later = [attack for attack in attacks if attack.name in _PAGES]
    meanwhile = [attack for attack in attacks if attack.name in _CHANNELS]
    for attack in later:
        if not _large_file():
            yield Outcome(attack, False, "not run: no package has a large file", ran=False)
            continue
        started = time.monotonic()
        number = _arm(scene, "leave-pages")
        scene.env.evaluate("test")
        yield _outcome(attack, number, _look(scene, f"find-{attack.name}"), started)
    if meanwhile:
        with Scene(scene.competition, scene.sandbox, scene.secret) as other:
            other.write_facts()
            for attack in meanwhile:
                started = time.monotonic()
                number = _arm(scene, f"send-{attack.name}")
                sender = threading.Thread(target=scene.env.evaluate, args=("test",))
                sender.start()
                report = _look(other, f"receive-{attack.name}")
                while number not in report[0] and sender.is_alive():
                    report = _look(other, f"receive-{attack.name}")
                sender.join()
                yield _outcome(attack, number, report, started)
    scene.disarm()


def _arm(scene: Scene, route: str) -> str:
    """Have the next evaluation carry a number; returns what somebody who has it would report."""
    number = secrets.token_hex(8)
    scene.write_facts(large_file=_large_file())
    scene.act(WriteFile(_WORD, number))
    scene.arm("leaking", [route])
    return f"fact:heard-{number}"


def _large_file() -> str:
    """The largest library among the interpreter's packages that is probably not in use; empty if none is."""
    patterns = ("*/*.so*", "*/lib/*.so*", "*.libs/*.so*", "*/*/*.so")
    folders = [Path(prefix, "lib") for prefix in {sys.prefix, sys.base_prefix}]
    paths = [
        path
        for folder in folders
        for name in patterns
        for path in folder.glob(f"python3*/site-packages/{name}")
    ]
    mapped = _mapped_files()
    unused = [
        path
        for path in paths
        if "numpy" not in str(path) and str(path) not in mapped and path.stat().st_size >= _LARGE
    ]
    return str(max(unused, key=lambda path: ("torch" not in str(path), path.stat().st_size), default=""))


def _mapped_files() -> set[str]:
    """Files that processes of this machine have mapped, as far as this user may know: their pages stay."""
    files = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # the process has ended, or is another user's
            lines = maps.read_text("utf-8", "surrogateescape").splitlines()
            files |= {line.split(maxsplit=5)[5] for line in lines if line.endswith(".so") or ".so." in line}
    return files


def _look(scene: Scene, route: str) -> tuple[tuple[str, ...], str]:
    if scene.workspace.joinpath(_WORD).exists():
        scene.act(WriteFile(_WORD, "0"))
    report = scene.run("leaking", [route])[route]
    return report.finds, report.message


def _outcome(attack: Attack, number: str, report: tuple[tuple[str, ...], str], started: float) -> Outcome:
    finds, message = report
    got = number in finds
    return Outcome(attack, got, "the number was read" if got else message, time.monotonic() - started)
