"""Lines that show that long work goes on: what, for how long, how much of it, its last words."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import NoReturn, Self

from tqdm import tqdm

_REFRESH_SECONDS = 0.5
_FORMAT = "{desc} [{elapsed}]{postfix}"


class Progress:
    """A progress line on standard error, and a plain line before and after where it is no terminal.

    Args:
        text: What goes on.
        quiet: Print nothing at all.
    """

    def __init__(self, text: str, *, quiet: bool = False) -> None:
        self._text = text
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
            print(f"{self._text} ...", file=sys.stderr, flush=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._bar is not None:
            self._bar.close()

    def say(self, words: str) -> None:
        """Show the last words of the work beside the time."""
        if self._bar is not None and words:
            self._bar.set_postfix_str(words[:80], refresh=False)

    def _refresh(self) -> None:
        while not self._stop.wait(_REFRESH_SECONDS):
            if self._bar is not None:
                self._bar.refresh()


class Bar:
    """A bar on standard error that counts what is done; nothing where it is no terminal.

    Args:
        text: What goes on.
        total: How much there is to do.
        quiet: Show nothing.
    """

    def __init__(self, text: str, total: int, *, quiet: bool = False) -> None:
        hidden = quiet or not sys.stderr.isatty()
        self._bar: tqdm[NoReturn] = tqdm(desc=text, total=total, disable=hidden, file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self, line: str, *, error: bool = False) -> None:
        """Count one more, and print a line of its own above the bar."""
        self._bar.write(line, file=sys.stderr if error else sys.stdout)
        self._bar.update()
