"""Temporary folders that are gone with their process, however that ends.

All of a process lie in one folder below the system's temporary one, on which it holds a lock. The
lock ends with the process; the next process that needs a folder removes what the dead have left.
Others may pass through these folders, as the sandbox's user has to, but not list them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from mlrcbench.files import remove_tree

_PREFIX = "mlrcbench-process-"
_MODE = 0o711
_lock = threading.Lock()
_own: tuple[int, Path, int] | None = None  # process, folder, descriptor that holds its lock


def make_scratch(kind: str) -> Path:
    """A new, empty folder.

    Args:
        kind: What its name begins with.

    Raises:
        OSError: There is no room for it.
    """
    with _lock:
        path = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=_process_folder()))
    path.chmod(_MODE)
    return path


def remove_scratch(path: Path) -> None:
    """Remove a folder that `make_scratch` made; with the last one, the process's own goes too."""
    global _own  # noqa: PLW0603 (one folder a process)
    remove_tree(path)
    with _lock:
        if _own is not None and _own[:2] == (os.getpid(), path.parent):
            with contextlib.suppress(OSError):  # others are left in it
                path.parent.rmdir()
                os.close(_own[2])
                _own = None


@contextlib.contextmanager
def scratch(kind: str) -> Iterator[Path]:
    """A folder for the time of a block; see `make_scratch`."""
    path = make_scratch(kind)
    try:
        yield path
    finally:
        remove_scratch(path)


def remove_dead_scratch() -> None:
    """Remove the folders of processes that are gone without having removed them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            info = folder.lstat()
            if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
                continue
            descriptor = _locked(folder)
            try:
                remove_tree(folder)
            finally:
                os.close(descriptor)


class PrivateFolder:
    """A folder that is made when it is first needed.

    Args:
        kind: See `make_scratch`.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        """Where it is."""
        if self._path is None:
            self._path = make_scratch(self._kind)
        return self._path

    def remove(self) -> None:
        """Remove it with everything in it, if it was made."""
        if self._path is not None:
            remove_scratch(self._path)
            self._path = None


def _process_folder() -> Path:
    global _own  # noqa: PLW0603
    if _own is None or _own[0] != os.getpid() or not _own[1].is_dir():
        remove_dead_scratch()
        # Locked before it has a name that others look for.
        hidden = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))
        hidden.chmod(_MODE)
        descriptor = _locked(hidden)
        folder = hidden.rename(hidden.with_name(f"{_PREFIX}{secrets.token_hex(8)}"))
        _own = (os.getpid(), folder, descriptor)
    return _own[1]


def _locked(folder: Path) -> int:
    """A descriptor that holds the folder's lock.

    Raises:
        BlockingIOError: Another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
