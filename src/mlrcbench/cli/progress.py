"""What commands print: their answers, and lines that show the progress of long work.

Everything is printed by `say` or by the classes here, which escape control characters: agents choose
commands, names of files, outputs and reasons, and none of these may command the user's terminal.
"""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import NoReturn, Self

from tqdm import tqdm

from mlrcbench.text import one_line, printable

_REFRESH_SECONDS = 0.5
_FORMAT = "{desc} [{elapsed}]{postfix}"


def say(text: str, *, error: bool = False) -> None:
    """Print a text of one or more lines on standard output, or on standard error."""
    print(printable(text), file=sys.stderr if error else sys.stdout, flush=True)


class Progress:
    """A progress line on standard error; a plain line at the start where that is not a terminal.

    Args:
        text: Name of the work.
        quiet: Whether to print nothing at all.
    """

    def __init__(self, text: str, *, quiet: bool = False) -> None:
        self._text = one_line(text)
        self._live = sys.stderr.isatty() and not quiet
        self._quiet = quiet
        self._stop = threading.Event()
        self._bar: tqdm[NoReturn] | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._live:
            self._bar = tqdm(desc=self._text, bar_format=_FORMAT, leave=False, file=sys.stderr)
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

    def say(self, line: str) -> None:
        """Show a line of the work's output next to the time."""
        if self._bar is not None and line:
            self._bar.set_postfix_str(one_line(line)[:80], refresh=False)

    def _refresh(self) -> None:
        while not self._stop.wait(_REFRESH_SECONDS):
            if self._bar is not None:
                self._bar.refresh()


class Bar:
    """A bar on standard error that counts finished parts; nothing where that is not a terminal.

    Args:
        text: Name of the work.
        total: Number of parts.
        quiet: Whether to show no bar.
    """

    def __init__(self, text: str, total: int, *, quiet: bool = False) -> None:
        hidden = quiet or not sys.stderr.isatty()
        self._bar: tqdm[NoReturn] = tqdm(desc=one_line(text), total=total, disable=hidden, file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self, line: str, *, error: bool = False) -> None:
        """Count one more part, and print a line above the bar, unless it is empty."""
        if line:
            self._bar.write(one_line(line), file=sys.stderr if error else sys.stdout)
        self._bar.update()

    def begin_at(self, count: int, total: int) -> None:
        """Begin with some parts that are finished already."""
        self._bar.reset(total)
        self._bar.update(count)
