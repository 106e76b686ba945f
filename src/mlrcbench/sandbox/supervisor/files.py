"""Folders that hostile code has written: measure, hand over, empty.

Such a tree can be thousands of levels deep, full of links, and without permissions. So
nothing here recurses, follows a link, leaves the file system it started on, or builds a path
from names.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import time
from collections.abc import Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_BLOCK = 4096


class TooDeepError(OSError):
    """A tree has more open branches than this process may have open files."""


def walk(root: str) -> Iterator[tuple[int, str, os.stat_result]]:
    """Every entry below a folder, as an open folder, a name in it, and the entry's state.

    A folder comes before what is in it. Entries that vanish or cannot be opened are left out.

    Raises:
        TooDeepError: The tree is built to exhaust open files.
        OSError: The root cannot be opened.
    """
    top = _open_folder(None, root)
    if top is None:
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", root)
    device = os.fstat(top).st_dev
    stack: list[tuple[int, list[str]]] = [(top, [])]
    fresh = True
    try:
        while stack:
            folder, pending = stack[-1]
            if fresh:
                for name, state in _entries(folder, device):
                    yield folder, name, state
                    if stat.S_ISDIR(state.st_mode):
                        pending.append(name)
            fresh = False
            if not pending:
                os.close(stack.pop()[0])
                continue
            child = _open_folder(folder, pending.pop())
            if child is not None:
                if not pending:
                    os.close(stack.pop()[0])
                stack.append((child, []))
                fresh = True
    finally:
        for folder, _ in stack:
            os.close(folder)


def usage(root: str) -> int:
    """Bytes that a tree takes on disk; each entry counts as one block at least.

    A tree too deep to be walked counts as endless.
    """
    total = 0
    try:
        for _, _, state in walk(root):
            total += max(state.st_blocks * 512, _BLOCK)
    except TooDeepError:
        return 1 << 62
    return total


def give(root: str, uid: int) -> None:
    """Make a user the owner of a tree and of everything in it. Links are not followed.

    Raises:
        OSError: An owner could not be changed.
    """
    if os.stat(root).st_uid != uid:
        os.chown(root, uid, uid, follow_symlinks=False)
    for folder, name, state in walk(root):
        if state.st_uid != uid:
            with contextlib.suppress(FileNotFoundError):
                os.chown(name, uid, uid, dir_fd=folder, follow_symlinks=False)


def empty(root: str, *, seconds: float) -> None:
    """Remove everything in a folder, except what lies on other file systems.

    Folders are moved up before they are emptied, so depth does not matter.

    Raises:
        OSError: Something could not be removed, or it took too long.
    """
    top = os.open(root, _FOLDER)
    try:
        device = os.fstat(top).st_dev
        deadline = time.monotonic() + seconds
        fresh = (f".{os.urandom(8).hex()}-{number}" for number in itertools.count())
        while folders := _unlink_files(top, device):
            for name in folders:
                _lift(top, name, device, fresh)
                if time.monotonic() > deadline:
                    raise OSError(f"{root} could not be emptied within {seconds:g} s")
    finally:
        os.close(top)


def _entries(folder: int, device: int) -> list[tuple[str, os.stat_result]]:
    """What a folder holds, without folders of other file systems.

    Only folders tell: a layered file system has many device numbers for its files.
    """
    found = []
    with os.scandir(folder) as listing:
        for entry in listing:
            with contextlib.suppress(OSError):
                state = entry.stat(follow_symlinks=False)
                if not stat.S_ISDIR(state.st_mode) or state.st_dev == device:
                    found.append((entry.name, state))
    return found


def _open_folder(parent: int | None, name: str) -> int | None:
    """Open a folder; one whose owner took away its own permission gets it back first."""
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        return _reopen(parent, name)
    except OSError as error:
        _raise_if_too_deep(error)
        return None


def _reopen(parent: int | None, name: str) -> int | None:
    try:
        held = _permit(parent, name)
    except OSError as error:
        _raise_if_too_deep(error)
        return None
    try:
        return os.open(".", _FOLDER, dir_fd=held)
    except OSError as error:
        _raise_if_too_deep(error)
        return None
    finally:
        os.close(held)


def _permit(parent: int | None, name: str) -> int:
    """Give a folder's owner all permission to it, and hold it.

    The name may be swapped for a link at any moment, so the folder is held before it is changed.
    """
    held = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        mode = stat.S_IMODE(os.fstat(held).st_mode)
        if mode & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{held}", mode | 0o700)
    except BaseException:
        os.close(held)
        raise
    return held


def _raise_if_too_deep(error: OSError) -> None:
    if error.errno in (errno.ENFILE, errno.EMFILE):
        raise TooDeepError(error.errno, "the tree is too deep") from error


def _unlink_files(folder: int, device: int) -> list[str]:
    """Remove what is no folder; the names of the folders."""
    folders = []
    for name, state in _entries(folder, device):
        if stat.S_ISDIR(state.st_mode):
            folders.append(name)
        else:
            _unlink(name, folder)
    return folders


def _unlink(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno != errno.EBUSY:  # something is mounted on it
            raise


def _lift(top: int, name: str, device: int, fresh: Iterator[str]) -> None:
    """Remove one folder of `top` after moving its own folders up into `top`."""
    held = _permit(top, name)
    try:
        folder = os.open(".", _FOLDER, dir_fd=held)
    finally:
        os.close(held)
    try:
        for inner in _unlink_files(folder, device):
            os.close(_permit(folder, inner))  # else it cannot be moved
            os.rename(inner, next(fresh), src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)
