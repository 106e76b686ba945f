"""What the commands and evaluations of an episode print, while they run: the end of the newest output."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mlrcbench.storage.layout import EVALUATION_OUTPUT, EVALUATIONS, OUTPUTS
from mlrcbench.storage.strict import open_regular
from mlrcbench.text import on_terminal, one_line

_MAX_FILES = 10_000
_MAX_BYTES = 1 << 30
_TAIL_BYTES = 8192
_LINE_CHARS = 200


def newest_output(record: Path | None, since: float) -> str:
    """The end of the output that was written last, as a terminal shows it; empty without one.

    Args:
        record: The directory of the episode's record.
        since: Time stamp; what was written before it is not looked at.
    """
    newest, when = None, since
    for path in itertools.islice(_logs(record), _MAX_FILES) if record is not None else ():
        try:
            modified = path.lstat().st_mtime
        except OSError:
            continue
        if modified >= when:
            newest, when = path, modified
    if newest is None:
        return ""
    try:
        with open_regular(newest, _MAX_BYTES) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            return on_terminal(file.read(_TAIL_BYTES).decode("utf-8", "replace"))
    except (OSError, ValueError):  # it was removed in the meantime, or is not a file
        return ""


def last_line(record: Path | None, since: float) -> str:
    """The last line of `newest_output`, without control characters."""
    lines = [line for line in re.split(r"[\r\n]+", newest_output(record, since)) if line.strip()]
    return one_line(lines[-1].strip()[:_LINE_CHARS]) if lines else ""


def _logs(record: Path) -> Iterator[Path]:
    """The files that receive the outputs of commands and evaluations while these run."""
    yield from (record / OUTPUTS).glob("*.txt")
    yield from (folder / EVALUATION_OUTPUT for folder in (record / EVALUATIONS).glob("*"))
