"""The folders of this installation: where they lie, and what to set if one of them cannot be used.

Each may lie behind symbolic links and is resolved here, because a sandbox shows folders at their resolved
paths only: a path that is stored or linked to must be the resolved one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlrcbench.errors import DataError, MlrcbenchError

# How a user moves a folder: the end of the sentence "... to a folder that ...".
MOVE_HOME = "set MLRCBENCH_HOME"
MOVE_TEMPORARY = "set TMPDIR"
MOVE_RECORDS = "set records= (--records in the command line)"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_TRIAL_BYTES = 1 << 16


def home() -> Path:
    """The folder for instances, records and the secret.

    It is `$MLRCBENCH_HOME`, or else `mlrcbench` below `$XDG_CACHE_HOME` or `~/.cache`; links are resolved.

    Raises:
        DataError: This user has no home folder, and no variable names another one.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return resolved(os.environ.get("MLRCBENCH_HOME") or f"{cache}/mlrcbench")


def temporary() -> Path:
    """The folder for temporary files: `$TMPDIR`, or what Python takes without it; links are resolved.

    Raises:
        OSError: No such folder can be written to.
    """
    return resolved(tempfile.gettempdir())


def resolved(path: str | Path) -> Path:
    """An absolute path without links, also if it does not exist yet; `~` is the user's home folder.

    Raises:
        DataError: The path begins with `~`, and the user has no home folder.
    """
    try:
        return Path(os.path.realpath(Path(path).expanduser()))
    except RuntimeError as error:
        raise DataError(
            f"the home folder in {path} is not known; set MLRCBENCH_HOME to a folder that you can write to"
        ) from error


@contextlib.contextmanager
def usable(folder: Path | str, advice: str, error_class: type[MlrcbenchError] = DataError) -> Iterator[None]:
    """Turn the system's errors about a folder into a sentence that says what to do.

    Args:
        folder: The folder, or what it is called; an error that names a file is reported with that file.
        advice: How the user moves the folder, for example `MOVE_HOME`.
        error_class: Class of the error that is raised.
    """
    try:
        yield
    except OSError as error:
        raise error_class(_sentence(folder, advice, error)) from error


def nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))


def trial(folder: Path, advice: str) -> str:
    """Why a folder cannot be used, and what to do; empty if it can.

    A file is written and removed again in the folder, or in the nearest folder above it that exists.
    """
    base = nearest_existing(folder)
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".mlrcbench-trial-", dir=base) as scratch,
            open(os.path.join(scratch, "file"), "wb") as file,
        ):
            file.write(bytes(_TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return _sentence(folder, advice, error)
    return ""


def _sentence(folder: Path | str, advice: str, error: OSError) -> str:
    place = folder if error.filename is None else os.fsdecode(error.filename)
    if error.errno in _FULL:
        remedy = f"free some space, or {advice} to a folder with more of it"
    else:
        remedy = f"{advice} to a folder that you can write to"
    return f"{place} cannot be used: {error.strerror or error}; {remedy}"
