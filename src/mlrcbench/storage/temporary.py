"""Temporary folders that are removed when their process ends, however it ends.

All folders of a process lie in one folder below the system's temporary folder, on which the process
holds a lock. The lock ends with the process; the next process that needs a folder removes what ended
processes have left. A folder belongs to the process that made it: a forked copy of that process neither
uses nor removes it. Other users may pass through these folders, as the sandbox's user has to, but not
list them.
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

from mlrcbench.errors import SandboxError
from mlrcbench.sandbox.folders import MOVE_TEMPORARY, temporary, usable
from mlrcbench.sandbox.ownership import Owner
from mlrcbench.storage.trees import remove_tree

_PREFIX = "mlrcbench-process-"
_MODE = 0o711
_lock = threading.Lock()
_own: tuple[int, Path, int] | None = None  # process, folder, descriptor that holds its lock


def make_scratch(kind: str) -> Path:
    """A new, empty folder.

    Args:
        kind: The beginning of the folder's name.

    Raises:
        SandboxError: The folder cannot be created; the text says what to set.
    """
    with usable("the temporary folder", MOVE_TEMPORARY, SandboxError):
        with _lock:
            path = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=_process_folder()))
        path.chmod(_MODE)
    return path


def remove_scratch(path: Path) -> None:
    """Remove a folder that `make_scratch` made; with the last one, the process's folder is removed too.

    A folder that another process made, of which this one is a forked copy, stays.
    """
    global _own  # noqa: PLW0603 (one folder a process)
    if _own is None or _own[:2] != (os.getpid(), path.parent):
        return
    remove_tree(path)
    with _lock, contextlib.suppress(OSError):  # other folders are left in it
        path.parent.rmdir()
        os.close(_own[2])
        _own = None


@contextlib.contextmanager
def scratch(kind: str) -> Iterator[Path]:
    """A folder that exists for the duration of a block; see `make_scratch`."""
    path = make_scratch(kind)
    try:
        yield path
    finally:
        remove_scratch(path)


def remove_dead_scratch() -> None:
    """Remove the folders that ended processes have left."""
    for folder in temporary().glob(f"{_PREFIX}*"):
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
    """A folder that is created when it is first needed, by whichever thread needs it first.

    A forked copy of the process gets another folder.

    Args:
        kind: See `make_scratch`.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._path: Path | None = None
        self._owner = Owner()
        self._making = threading.Lock()

    @property
    def path(self) -> Path:
        """Path of the folder, which is created now if it does not exist."""
        with self._making:
            if self._path is None or not self._owner.is_here:
                self._path, self._owner = make_scratch(self._kind), Owner()
            return self._path

    def remove(self) -> None:
        """Remove the folder with everything in it, if it was created."""
        path, self._path = self._path, None
        if path is not None:
            remove_scratch(path)


def _process_folder() -> Path:
    """The folder of this process, created and locked at its first use."""
    global _own  # noqa: PLW0603
    if _own is None or _own[0] != os.getpid() or not _own[1].is_dir():
        remove_dead_scratch()
        # Locked before it gets the name that other processes look for.
        hidden = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=temporary()))
        hidden.chmod(_MODE)
        descriptor = _locked(hidden)
        folder = hidden.rename(hidden.with_name(f"{_PREFIX}{secrets.token_hex(8)}"))
        _own = (os.getpid(), folder, descriptor)
    return _own[1]


def _forget() -> None:
    """Begin again without a folder, in a forked copy of the process that has it."""
    global _own, _lock  # noqa: PLW0603
    _lock = threading.Lock()  # another thread may have held the lock when the process was forked
    if _own is not None:
        os.close(_own[2])
        _own = None


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


os.register_at_fork(after_in_child=_forget)
