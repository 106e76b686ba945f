"""What a build tells the user: a moving line on a terminal, and two lines in the log `mlrcbench`.

A program that has a moving line of its own takes over: it says so by `shown_elsewhere`, and shows what
`current_build` returns. There is then no second line.

Whether log lines are shown, and where, is up to the program that uses the library:
`logging.basicConfig(level="INFO")` shows them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

LOG = logging.getLogger("mlrcbench")
_QUIET_SECONDS = 1.0  # a build that is faster shows no line on a terminal
_LINE_CHARS = 60


class Build:
    """A build that is running in this process.

    Args:
        name: What is built.
        expected_seconds: How long it will take, if that is known.
    """

    def __init__(self, name: str, expected_seconds: float | None) -> None:
        self.name = name
        self.line = ""
        self._expected = expected_seconds
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._started

    @property
    def title(self) -> str:
        """What is built, and how long it will take, if that is known."""
        text = f"building {self.name}, once on this machine"
        return text if self._expected is None else f"{text}, in about {self._expected:.0f} s"

    def __str__(self) -> str:
        times = tqdm.format_interval(self.seconds)
        return f"{self.title} [{times}] {self.line[:_LINE_CHARS]}".rstrip()


_running: list[Build] = []
_takers: list[object] = []  # programs that show builds themselves


@contextlib.contextmanager
def shown_elsewhere() -> Iterator[None]:
    """Show no line for builds on a terminal, for the duration of a block, in any thread."""
    taker = object()
    _takers.append(taker)
    try:
        yield
    finally:
        _takers.remove(taker)


def current_build() -> str:
    """The build that has run for the longest time in this process, and how many others run; may be empty."""
    builds = list(_running)
    others = f" (and {len(builds) - 1} more)" if len(builds) > 1 else ""
    return f"{builds[0]}{others}" if builds else ""


@contextlib.contextmanager
def build_progress(name: str, expected_seconds: float | None) -> Iterator[Callable[[str], None]]:
    """Show that something is being built, for the duration of a block.

    Args:
        name: What is built.
        expected_seconds: How long it will take, if that is known.

    Yields:
        A function to call several times a second, with the last line of the build's output.
    """
    build = Build(name, expected_seconds)
    LOG.info("%s", build.title)
    live = sys.stderr is not None and sys.stderr.isatty() and not _takers
    bar: tqdm[NoReturn] | None = None

    def show(line: str) -> None:
        nonlocal bar
        build.line = line
        if live and bar is None and build.seconds >= _QUIET_SECONDS:
            bar = tqdm(bar_format="{desc}", leave=False, file=sys.stderr)
        if bar is not None:
            bar.set_description_str(str(build))

    _running.append(build)
    try:
        yield show
    finally:
        _running.remove(build)
        if bar is not None:
            bar.close()
    LOG.info("built %s in %.1f s", name, build.seconds)


def earlier_build_seconds(manifests: Iterator[Path]) -> float | None:
    """Wall seconds that an earlier build on this machine took; None if this is the first."""
    for path in manifests:
        with contextlib.suppress(OSError, ValueError, KeyError):
            return float(json.loads(path.read_text())["build_seconds"])
    return None
