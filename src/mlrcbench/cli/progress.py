"""What commands print: their answers, and lines that show the progress of long work.

Everything is printed by `say` or by the classes here, which escape control characters: agents choose
commands, names of files, outputs and reasons, and none of these may command the user's terminal.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn, Self

from tqdm import tqdm

from mlrcbench.catalog.build_progress import current_build, shown_elsewhere
from mlrcbench.text import one_line, printable

_REFRESH_SECONDS = 0.5
_BAR_CHARS = 60  # of a line, for the bar itself


def say(text: str, *, error: bool = False) -> None:
    """Print a text of one or more lines on standard output, or on standard error, where it may be lost.

    Raises:
        OSError: Standard output cannot be written.
    """
    if not error:
        print(printable(text), flush=True)
        return
    try:
        print(printable(text), file=sys.stderr, flush=True)
    except OSError:  # a full disk, or a terminal that is gone, must not end what is only reported there
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (the interpreter closes it)


def columns() -> int:
    """How wide the terminal is; 80 if it does not say."""
    return shutil.get_terminal_size().columns or 80


def duration(seconds: float) -> str:
    """Seconds as minutes and seconds, with hours if there are any: "01:09", "1:02:03"."""
    return str(tqdm.format_interval(seconds))


class Progress:
    """A progress line on standard error; a plain line at the start where that is not a terminal.

    While an instance is being built, the line says so instead of what the work does.

    Args:
        text: Name of the work.
        quiet: Whether to print nothing at all.
        times: What is known about the time that it takes, for example "at most 05:00"; shown after the time
            since the start.
        status: Returns what the work does now, whenever the line is drawn again.
        announced: Whether there is a plain line at the start where standard error is not a terminal.
    """

    def __init__(
        self,
        text: str,
        *,
        quiet: bool = False,
        times: str = "",
        status: Callable[[], str] | None = None,
        announced: bool = True,
    ) -> None:
        self._text = one_line(text)
        self._live = sys.stderr.isatty() and not quiet
        self._quiet = quiet or not announced
        self._times = f", {times}" if times else ""
        self._status = status
        self._said = ""
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._bar: tqdm[NoReturn] | None = None
        self._thread: threading.Thread | None = None
        self._builds = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._builds.enter_context(shown_elsewhere())
        if self._live:
            self._bar = tqdm(desc=self._line(), bar_format="{desc}", leave=False, file=sys.stderr)
            self._thread = threading.Thread(target=self._refresh, daemon=True)
            self._thread.start()
        elif not self._quiet:
            say(f"{self._text} ...", error=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._bar is not None:
            self._bar.close()
        self._builds.close()

    def say(self, line: str) -> None:
        """Show a line of the work's output next to the time."""
        self._said = line or self._said

    def print(self, line: str, *, error: bool = False) -> None:
        """Print a line of its own above the progress line."""
        with contextlib.nullcontext() if self._bar is None else tqdm.external_write_mode():
            say(one_line(line), error=error)

    def _line(self) -> str:
        """The line as it is now, not longer than the terminal is wide."""
        said = current_build() or (self._status() if self._status is not None else self._said)
        line = f"{self._text} [{duration(time.monotonic() - self._started)}{self._times}] {one_line(said)}"
        return line[: columns() - 1]

    def _refresh(self) -> None:
        while not self._stop.wait(_REFRESH_SECONDS):
            if self._bar is not None:
                self._bar.set_description_str(self._line())


class Bar:
    """A bar on standard error that counts finished parts; nothing where that is not a terminal.

    Args:
        text: Name of the work.
        total: Number of parts.
        quiet: Whether to show no bar.
        status: Returns what is being done now, whenever the bar is drawn again.
    """

    def __init__(
        self, text: str, total: int, *, quiet: bool = False, status: Callable[[], str] | None = None
    ) -> None:
        hidden = quiet or not sys.stderr.isatty()
        self._bar: tqdm[NoReturn] = tqdm(
            desc=one_line(text), total=total, disable=hidden, file=sys.stderr, ncols=columns()
        )
        self._status = status
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)
        if status is not None and not hidden:
            self._thread.start()

    def _refresh(self) -> None:
        while not self._stop.wait(_REFRESH_SECONDS):
            if self._status is not None:
                self._bar.ncols = columns()
                self._bar.set_postfix_str(one_line(self._status())[: max(0, columns() - _BAR_CHARS)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._bar.close()

    def advance(self, line: str, *, error: bool = False) -> None:
        """Count one more part, and print a line above the bar, unless it is empty."""
        if line:
            with tqdm.external_write_mode():
                say(one_line(line), error=error)
        self._bar.update()

    def begin_at(self, count: int, total: int) -> None:
        """Begin with some parts that are finished already."""
        self._bar.reset(total)
        self._bar.update(count)
