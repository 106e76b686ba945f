"""Folders of a tree that an agent made, opened through descriptors; and whose fault a failure is.

Every folder is opened through its parent and no link is followed, so nothing can redirect a call while
another process moves things around, and no path grows longer than the system allows.

A call on such a tree fails for one of two reasons. Names that are too long, missing permissions, loops
and the like are the agent's doing: a `WorkspaceError`, which the agent reads. A full disk or a lack of
descriptors is the machine's: a `SandboxError`, which nobody is scored by.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from mlrcbench.errors import MlrcbenchError, SandboxError, WorkspaceError, of_the_machine

MAX_PATH_BYTES = 3_500  # of a relative path, so that there is room for the folders above the tree
# To read a file: never through a link, and without waiting for the other end of a pipe.
READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OWNER = 0o700
_REASONS = {
    errno.ENOENT: "does not exist; use run with ls to see which files do",
    errno.ELOOP: "is, or goes through, a symbolic link; the file actions do not follow links",
    errno.ENOTDIR: "goes through a symbolic link, or through something that is not a folder",
    errno.ENAMETOOLONG: "has a name that is too long",
    errno.EISDIR: "is a folder",
    errno.EACCES: "cannot be used: permission denied; use run with chmod u+rwX",
}


def failure(path: str, error: OSError) -> MlrcbenchError:
    """The error for a failed call on an agent's tree: the machine's, or else the agent's.

    Args:
        path: What was used, relative to the tree.
        error: Why the call failed.
    """
    if of_the_machine(error):
        return SandboxError(f"the machine failed at {show(path)}: {error.strerror}")
    reason = _REASONS.get(error.errno or 0, f"cannot be used: {error.strerror or error}")
    return WorkspaceError(f"{show(path)} {reason}")


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn the system's errors for a path into sentences; see `failure`."""
    try:
        yield
    except UnicodeEncodeError:
        raise WorkspaceError(f"{show(path)} is not valid Unicode") from None
    except OSError as error:
        raise failure(path, error) from error


def show(path: str) -> str:
    """A path for a message: short, and without control characters."""
    return repr(path if len(path) <= 200 else f"{path[:100]}...{path[-60:]}")


def open_root(root: Path) -> int:
    """A descriptor of the folder at the top of a tree; it can be used whatever its mode was.

    Raises:
        WorkspaceError: The agent keeps taking away its permissions.
        SandboxError: The folder is gone.
    """
    try:
        if os.lstat(root).st_mode & _OWNER != _OWNER:
            os.chmod(root, 0o755)
        return os.open(root, _FOLDER)
    except PermissionError:
        raise WorkspaceError(f"the folder {root.name}/ cannot be opened; give it back its mode") from None
    except OSError as error:
        raise SandboxError(f"the folder {root.name}/ has disappeared: {error.strerror}") from error


@contextlib.contextmanager
def descend(root: Path, folders: tuple[str, ...], path: str, create: bool = False) -> Iterator[int]:
    """A descriptor of a folder below `root`.

    Args:
        root: The top of the tree.
        folders: The names that lead to the folder.
        path: What is to be used in it, for messages.
        create: Whether to create folders that do not exist.
    """
    descriptor = open_root(root)
    try:
        for name in folders:
            with explained(path):
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, dir_fd=descriptor)
                deeper = os.open(name, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = deeper
        yield descriptor
    finally:
        os.close(descriptor)


class Cursor:
    """One open folder at a time below a root; it holds two descriptors, however deep the tree is.

    Args:
        root: The top of the tree, which may be reached through links.

    Raises:
        OSError: The folder cannot be opened.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
        self._folder, self._base = self._root, ""

    def open(self, base: str) -> int:
        """A descriptor of a folder, valid until the next call.

        Args:
            base: Relative path of the folder, with a slash at its end; empty for the root.

        Raises:
            OSError: The folder cannot be opened, or is not a real folder.
        """
        if base == self._base:
            return self._folder
        inside = bool(self._base) and base.startswith(self._base)
        folder = self._folder if inside else self._root
        for name in base[len(self._base) if inside else 0 :].split("/")[:-1]:
            try:
                deeper = os.open(name, _FOLDER, dir_fd=folder)
            except OSError:
                if folder != self._folder:
                    self._close(folder)
                raise
            if folder != self._folder:
                self._close(folder)
            folder = deeper
        if folder != self._folder:
            self._close(self._folder)
        self._folder, self._base = folder, base
        return folder

    def _close(self, descriptor: int) -> None:
        if descriptor != self._root:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(self._folder)
        os.close(self._root)
