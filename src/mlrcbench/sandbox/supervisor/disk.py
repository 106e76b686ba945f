"""Folders that hostile code has written: measure them, change their owner, empty them.

Such a tree can be thousands of levels deep, full of links, and without permissions. So nothing
here recurses, follows a link, leaves the file system that it started on, or joins names to paths.
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
_OPEN_FOLDERS = 128  # how many folders are open at once, however deep a tree is
UNKNOWN = 1 << 62  # the size of a tree that cannot be walked
_BATCH = 1000  # how many entries are removed before a folder is listed again


class UnreadableError(OSError):
    """A tree was moved while it was walked, or no more files can be opened."""


class _Level:
    """A folder on the way to the one that is being walked, with the names of its folders still to come."""

    def __init__(self, folder: int) -> None:
        self.folder: int | None = folder
        self.pending: list[str] = []
        self._identity = _identity(folder)

    def close(self) -> None:
        """Close the folder for now."""
        if self.folder is not None:
            os.close(self.folder)
            self.folder = None

    def reopen(self, child: int) -> None:
        """Open the folder again from one in it, if it was closed.

        Raises:
            UnreadableError: The child is no longer in this folder.
        """
        if self.folder is not None:
            return
        _let_search(child)  # it may have lost its permission since it was opened
        self.folder = _open_folder(child, "..")
        if self.folder is None or _identity(self.folder) != self._identity:
            raise UnreadableError(errno.ESTALE, "the tree was changed while it was walked")


def walk(root: str) -> Iterator[tuple[int, str, os.stat_result]]:
    """Every entry below a folder, as an open folder, a name in it, and the entry's state.

    A folder comes before its contents. Entries that vanish or cannot be opened are left out.

    Raises:
        UnreadableError: Folders were moved meanwhile, so that parts of the tree would be left out.
        OSError: The root cannot be opened.
    """
    top = _open_folder(None, root)
    if top is None:
        raise FileNotFoundError(errno.ENOENT, "the folder does not exist", root)
    levels = [_Level(top)]
    device = os.fstat(top).st_dev
    try:
        yield from _list(levels[0], top, device)
        while levels:
            level = levels[-1]
            folder = level.folder
            assert folder is not None
            if not level.pending:
                if len(levels) > 1:
                    levels[-2].reopen(folder)
                levels.pop().close()
                continue
            child = _open_folder(folder, level.pending.pop())
            if child is None:
                continue
            levels.append(_Level(child))
            if len(levels) > _OPEN_FOLDERS:
                levels[-_OPEN_FOLDERS - 1].close()
            yield from _list(levels[-1], child, device)
    finally:
        for level in levels:
            level.close()


def _list(level: _Level, folder: int, device: int) -> Iterator[tuple[int, str, os.stat_result]]:
    """Yield a folder's entries, and keep the names of its folders."""
    for name, state in _entries(folder, device):
        yield folder, name, state
        if stat.S_ISDIR(state.st_mode):
            level.pending.append(name)


def sizes(root: str) -> Iterator[int]:
    """Bytes that each entry of a tree takes on disk, which count as at least one block.

    A tree that cannot be walked to its end counts as 2**62 bytes.
    """
    try:
        for _, _, state in walk(root):
            yield max(state.st_blocks * 512, _BLOCK)
    except UnreadableError:
        yield UNKNOWN


def usage(root: str) -> int:
    """The sum of the `sizes` of a tree."""
    return sum(sizes(root))


def give(root: str, uid: int) -> None:
    """Make a user the owner of a folder and of everything in it; links are not followed.

    What moves while it is walked, by a job of the same user, is that user's already.

    Raises:
        OSError: An owner could not be changed.
    """
    if os.stat(root).st_uid != uid:
        os.chown(root, uid, uid, follow_symlinks=False)
    with contextlib.suppress(UnreadableError):
        for folder, name, state in walk(root):
            if state.st_uid != uid:
                with contextlib.suppress(FileNotFoundError):
                    os.chown(name, uid, uid, dir_fd=folder, follow_symlinks=False)


def empty(root: str, *, seconds: float) -> None:
    """Remove everything in a folder, except what lies on other file systems.

    Folders are moved up before they are emptied, so depth does not matter.

    Raises:
        OSError: An entry could not be removed, or emptying took too long.
    """
    top = os.open(root, _FOLDER)
    try:
        device = os.fstat(top).st_dev
        deadline = time.monotonic() + seconds
        new_names = (f".{os.urandom(8).hex()}-{number}" for number in itertools.count())
        while folders := _unlink_files(top, device, deadline):
            for name in folders:
                _lift(top, name, device, new_names, deadline)
    except TimeoutError as error:
        raise OSError(f"{root} could not be emptied within {seconds:g} s") from error
    finally:
        os.close(top)


def _identity(folder: int) -> tuple[int, int]:
    state = os.fstat(folder)
    return state.st_dev, state.st_ino


def _entries(folder: int, device: int) -> Iterator[tuple[str, os.stat_result]]:
    """Names and states of a folder's entries, without folders of other file systems.

    Only folders are compared: a layered file system has many device numbers for its files.
    """
    try:
        listing = os.scandir(folder)
    except OSError as error:
        _raise_if_full(error)
        raise
    with listing:
        for entry in listing:
            with contextlib.suppress(OSError):
                state = entry.stat(follow_symlinks=False)
                if not stat.S_ISDIR(state.st_mode) or state.st_dev == device:
                    yield entry.name, state


def _open_folder(parent: int | None, name: str) -> int | None:
    """Open a folder; if its owner has no permission to it, the owner gets that first."""
    try:
        folder = os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        return _reopen(parent, name)
    except OSError as error:
        _raise_if_full(error)
        return None
    _let_search(folder)
    return folder


def _let_search(folder: int) -> None:
    """Let a folder's owner reach what is in it: a folder that can only be listed hides how large it is."""
    mode = stat.S_IMODE(os.fstat(folder).st_mode)
    if mode & 0o100 == 0:
        with contextlib.suppress(OSError):
            os.fchmod(folder, mode | 0o700)


def _reopen(parent: int | None, name: str) -> int | None:
    try:
        handle = _permit(parent, name)
    except OSError as error:
        _raise_if_full(error)
        return None
    try:
        return os.open(".", _FOLDER, dir_fd=handle)
    except OSError as error:
        _raise_if_full(error)
        return None
    finally:
        os.close(handle)


def _permit(parent: int | None, name: str) -> int:
    """Give a folder's owner all permissions to it; returns a handle (O_PATH) of the folder.

    Its name may be replaced by a link at any moment, so the change goes through the handle.
    """
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        if mode & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{handle}", mode | 0o700)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _raise_if_full(error: OSError) -> None:
    if error.errno in (errno.ENFILE, errno.EMFILE):
        raise UnreadableError(error.errno, "no more files can be opened") from error


def _unlink_files(folder: int, device: int, deadline: float) -> list[str]:
    """Remove everything in a folder but its folders, and return their names.

    Raises:
        TimeoutError: The deadline has passed.
    """
    while True:
        folders: list[str] = []
        files: list[str] = []
        for name, state in _entries(folder, device):
            (folders if stat.S_ISDIR(state.st_mode) else files).append(name)
            if len(files) + len(folders) >= _BATCH:
                break
        removed = [name for name in files if _unlink(name, folder)]
        if time.monotonic() > deadline:
            raise TimeoutError("the folder could not be emptied in time")
        if folders or not removed:
            return folders


def _unlink(name: str, folder: int) -> bool:
    """Remove a file; False if something is mounted on it."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _lift(top: int, name: str, device: int, new_names: Iterator[str], deadline: float) -> None:
    """Remove one folder of `top` after moving its own folders up into `top`."""
    handle = _permit(top, name)
    try:
        folder = os.open(".", _FOLDER, dir_fd=handle)
    finally:
        os.close(handle)
    try:
        while inner_names := _unlink_files(folder, device, deadline):
            for inner in inner_names:
                os.close(_permit(folder, inner))  # without permission it cannot be moved
                os.rename(inner, next(new_names), src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)
