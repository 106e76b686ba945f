"""What a build tells the user: a moving line on a terminal, and two lines in the log `mlrcbench`.

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
_FORMAT = "{desc} [{elapsed}]{postfix}"
_LINE_CHARS = 60


@contextlib.contextmanager
def build_progress(name: str, expected_seconds: float | None) -> Iterator[Callable[[str], None]]:
    """Show that something is being built, for the duration of a block.

    Args:
        name: What is built.
        expected_seconds: How long it will take, if that is known.

    Yields:
        A function to call several times a second, with the last line of the build's output.
    """
    text = f"building {name}, once on this machine"
    if expected_seconds is not None:
        text += f", in about {expected_seconds:.0f} s"
    LOG.info("%s", text)
    started = time.monotonic()
    live = sys.stderr is not None and sys.stderr.isatty()
    bar: tqdm[NoReturn] | None = None

    def show(line: str) -> None:
        nonlocal bar
        if live and bar is None and time.monotonic() - started >= _QUIET_SECONDS:
            bar = tqdm(desc=text, bar_format=_FORMAT, leave=False, file=sys.stderr)
            bar.start_t = time.time() - (time.monotonic() - started)
        if bar is not None:
            bar.set_postfix_str(line[:_LINE_CHARS], refresh=True)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()
    LOG.info("built %s in %.1f s", name, time.monotonic() - started)


def earlier_build_seconds(manifests: Iterator[Path]) -> float | None:
    """Wall seconds that an earlier build on this machine took; None if this is the first."""
    for path in manifests:
        with contextlib.suppress(OSError, ValueError, KeyError):
            return float(json.loads(path.read_text())["build_seconds"])
    return None
