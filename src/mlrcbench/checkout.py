"""Checkout: a folder that is captured into a store, and laid out from it again.

Capturing reads only files whose inode, size or times have
changed since they were last read or written here; laying out touches only what differs. Both
are a walk over the folder otherwise.

When is "the same inode, size and times" the same content? The kernel stamps a change with a
clock that ticks every few milliseconds, so two changes within a tick can carry one stamp, and
memory that is mapped into a running process can change a file without any stamp. So a file is
remembered only while nothing runs in the folder, and only if its last change lies before the
tick in which it was read. Agent code can set the time of modification, never that of the
inode's change.

Agent code may be running during a capture (a job), so every folder is opened through its
parent, and no link is followed. What is read is bounded by what was counted. Nothing runs
while a tree is laid out.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mlrcbench.errors import WorkspaceError
from mlrcbench.files import TreeLimits, hash_file, remove_tree
from mlrcbench.store import Store
from mlrcbench.tree import MAX_FILE_BYTES, MAX_PATH_BYTES, ROOT, Node, Tree

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Waiting for the clock's next tick saves reading again what was just written, if that is much.
_MANY_FILES = 64
_MANY_BYTES = 4 << 20
_MAX_TICK_SECONDS = 0.05
_BLOCK = 4096
_ENDLESS = 1 << 62
_LINUX = sys.platform.startswith("linux")
_COARSE_CLOCK = 5  # CLOCK_REALTIME_COARSE, which the module `time` does not name
_TICK_NS = 20_000_000


class _Known(NamedTuple):
    """A file as it was when its content was last known."""

    stamp: tuple[int, int, int, int]
    path: str
    node: Node


class Checkout:
    """A folder and what is known of the files in it.

    Args:
        root: Where it is, or will be.
        limits: Bounds on a tree.
    """

    def __init__(self, root: Path, limits: TreeLimits) -> None:
        self.root = root
        self._limits = limits
        self._known: dict[int, _Known] = {}

    def capture(self, store: Store, views: Mapping[str, Path], *, still: bool = True) -> Tree:
        """The tree as it is, its contents in a store.

        Pipes, sockets and devices are left out; hard links become files of their own. A file
        that is being written is taken as it was read. A folder that does not exist is empty.

        Args:
            store: Receives contents that it does not have.
            views: Links that are recorded by name; see `Node`.
            still: Whether nothing runs in the folder.

        Raises:
            WorkspaceError: The tree exceeds a limit, or something in it cannot be read.
        """
        tick = _tick()
        tree: dict[str, Node] = {}
        fresh: dict[int, _Known] = {}
        with store.lock:
            old, stored = self._known, store.sizes
            for folder, entries in self._walk():
                for path, state in entries:
                    known = old.get(state.st_ino)
                    if (
                        known is not None
                        and known.path == path
                        and known.stamp
                        == (state.st_mode, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
                        and known.node.content in stored
                    ):
                        tree[path] = known.node
                        fresh[state.st_ino] = known
                        continue
                    node = self._node(store, folder, path, state, views)
                    if node is not None:
                        tree[path] = node
                        if node.kind == "file" and _is_settled(_stamp(state), tick):
                            fresh[state.st_ino] = _Known(_stamp(state), path, node)
        self._known = fresh if still else {}
        return tree

    def lay_out(self, tree: Tree, store: Store, views: Mapping[str, Path]) -> int:
        """Make the folder be a tree again; nothing may be running in it.

        Args:
            tree: What it shall be.
            store: Has its contents.
            views: Where the views' links lead.

        Returns:
            Bytes that the folder took on the disk before; one block at least for each entry.

        Raises:
            SnapshotError: A content is gone; the folder is then neither one tree nor the other.
            WorkspaceError: The disk is full; likewise.
        """
        try:
            return self._lay_out(tree, store, views)
        except OSError as error:
            raise WorkspaceError(f"{self.root.name} cannot be restored: {error.strerror}") from error

    def _walk(self) -> Iterator[tuple[int, list[tuple[str, os.stat_result]]]]:
        """Each folder, open, with the paths and states of its entries; before those within it."""
        top = _open_folder(None, str(self.root), ROOT)
        if top is None:
            return
        stack: list[tuple[int, list[str]]] = [(top, [])]
        folder, prefix, count, total = top, "", 0, 0
        try:
            yield top, [(ROOT, os.fstat(top))]
            while True:
                entries = _entries(folder, prefix, self._limits.entries - count)
                count += len(entries)
                total += sum(state.st_size for _, state in entries if stat.S_ISREG(state.st_mode))
                if count > self._limits.entries or total > self._limits.total_bytes:
                    raise WorkspaceError(
                        f"there are more than {self._limits.entries:,} files or "
                        f"{self._limits.total_bytes:,} bytes; remove what is not needed"
                    )
                yield folder, entries
                stack[-1][1].extend(path for path, state in entries if stat.S_ISDIR(state.st_mode))
                while stack:
                    if not stack[-1][1]:
                        os.close(stack.pop()[0])
                        continue
                    if len(stack) > self._limits.depth:
                        raise WorkspaceError(f"folders nest deeper than {self._limits.depth}; flatten them")
                    path = stack[-1][1].pop()
                    inner = _open_folder(stack[-1][0], os.path.basename(path), path)
                    if inner is not None:
                        stack.append((inner, []))
                        folder, prefix = inner, f"{path}/"
                        break
                else:
                    return
        finally:
            for folder, _ in stack:
                os.close(folder)

    def _node(
        self, store: Store, folder: int, path: str, state: os.stat_result, views: Mapping[str, Path]
    ) -> Node | None:
        """An entry as a node; None if it is of no kind that counts, or gone by now."""
        mode = stat.S_IMODE(state.st_mode) & 0o777
        if stat.S_ISDIR(state.st_mode):
            return Node("folder", mode, state.st_mtime_ns)
        if stat.S_ISREG(state.st_mode):
            found = self._content(store, folder, path, state)
            return found and Node("file", mode, state.st_mtime_ns, found[1], found[0])
        if stat.S_ISLNK(state.st_mode):
            try:
                text = os.readlink(os.path.basename(path), dir_fd=folder)
            except OSError:
                return None
            is_view = path in views and text == str(views[path])
            return Node("view", content=path) if is_view else Node("link", content=text)
        return None

    def _content(self, store: Store, folder: int, path: str, state: os.stat_result) -> tuple[str, int] | None:
        """Digest and size of a file, read only if it is not known; None if it is gone by now."""
        known = self._known.get(state.st_ino)
        if known is not None and known.stamp == _stamp(state) and known.node.content in store.sizes:
            return known.node.content, known.node.size
        if state.st_size > MAX_FILE_BYTES:
            raise WorkspaceError(f"{path[:200]!r} has over {MAX_FILE_BYTES:,} bytes; split or remove it")
        try:
            descriptor = os.open(os.path.basename(path), _FILE, dir_fd=folder)
        except PermissionError:
            raise WorkspaceError(f"{path[:200]!r} cannot be read; mend it with chmod u+r") from None
        except OSError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return store.put(descriptor, state.st_size)
        finally:
            os.close(descriptor)

    def _lay_out(self, tree: Tree, store: Store, views: Mapping[str, Path]) -> int:
        owner = self._owner()
        now, taken = self._now()
        for path in reversed([path for path in now if path != ROOT and path not in tree]):
            _remove(f"{self.root}/{path}", now[path])
        known: dict[int, _Known] = {}
        files = total = 0
        for path, node in tree.items():
            goal, state = f"{self.root}/{path}", now.get(path)
            if node.kind == "file":
                if not self._is_same_file(goal, node, state):
                    _remove(goal, state)
                    _write(goal, node, store, owner)
                    files, total = files + 1, total + node.size
                state = os.lstat(goal)
                known[state.st_ino] = _Known(_stamp(state), path, node)
            elif node.kind == "folder":
                if state is None or not stat.S_ISDIR(state.st_mode):
                    _remove(goal, state)
                    os.mkdir(goal, 0o700)
                    _give(goal, owner)
            else:
                _link(goal, str(views[node.content]) if node.kind == "view" else node.content, state, owner)
        for path, node in reversed(list(tree.items())):
            if node.kind == "folder":
                os.chmod(f"{self.root}/{path}", node.mode)
                os.utime(f"{self.root}/{path}", ns=(node.mtime_ns, node.mtime_ns))
        self._known = _trusted(known, wait=files > _MANY_FILES or total > _MANY_BYTES)
        return taken

    def _owner(self) -> int | None:
        """Whom new entries have to be given to: commands may run as a user of their own."""
        self.root.mkdir(mode=0o755, exist_ok=True)
        owner = self.root.lstat().st_uid
        return None if owner == os.geteuid() else owner

    def _now(self) -> tuple[dict[str, os.stat_result], int]:
        """What is there, every folder open to changes, and its size; out of bounds, it is removed."""
        try:
            now = {path: state for _, entries in self._walk() for path, state in entries}
        except WorkspaceError:
            owner = self.root.lstat().st_uid
            remove_tree(self.root)
            self.root.mkdir(mode=0o755)
            _give(str(self.root), owner if owner != os.geteuid() else None)
            return {ROOT: self.root.lstat()}, _ENDLESS
        for path, state in now.items():
            if stat.S_ISDIR(state.st_mode) and state.st_mode & 0o700 != 0o700:
                os.chmod(f"{self.root}/{path}", 0o700)
        return now, sum(max(512 * state.st_blocks, _BLOCK) for state in now.values())

    def _is_same_file(self, goal: str, node: Node, state: os.stat_result | None) -> bool:
        """Whether a file has a node's content; then its mode and time are mended, if need be."""
        if state is None or not stat.S_ISREG(state.st_mode):
            return False
        if state.st_size != node.size or state.st_nlink != 1:
            return False
        known = self._known.get(state.st_ino)
        if known is not None and known.stamp == _stamp(state):
            digest = known.node.content
        else:
            try:
                digest = hash_file(goal)
            except PermissionError:
                return False
        if digest != node.content:
            return False
        if stat.S_IMODE(state.st_mode) != node.mode:
            os.chmod(goal, node.mode)
        if state.st_mtime_ns != node.mtime_ns:
            os.utime(goal, ns=(node.mtime_ns, node.mtime_ns))
        return True


def _open_folder(parent: int | None, name: str, path: str) -> int | None:
    """Open a folder; None if it is gone, or no folder any more.

    Raises:
        WorkspaceError: It may not be read.
    """
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        raise WorkspaceError(
            f"the folder {path[:200]!r} cannot be read; mend it with chmod u+rwx, or remove it"
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise WorkspaceError(f"the folder {path[:200]!r} cannot be read: {error.strerror}") from error


def _entries(folder: int, prefix: str, most: int) -> list[tuple[str, os.stat_result]]:
    """Paths and states of what an open folder holds; of more than `most` entries, one more."""
    found: list[tuple[str, os.stat_result]] = []
    try:
        with os.scandir(folder) as listing:
            for entry in itertools.islice(listing, most + 1):
                path = prefix + entry.name
                try:
                    state = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if len(path) > MAX_PATH_BYTES // 4 and len(os.fsencode(path)) > MAX_PATH_BYTES:
                    raise WorkspaceError(
                        f"a path is longer than {MAX_PATH_BYTES:,} bytes; flatten the folders"
                    )
                found.append((path, state))
    except OSError as error:
        raise WorkspaceError(f"the folder {prefix[:200]!r} cannot be listed: {error.strerror}") from error
    return found


def _stamp(state: os.stat_result) -> tuple[int, int, int, int]:
    return state.st_mode, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _tick() -> int:
    """The clock that the kernel stamps changes with, or one behind it, in nanoseconds."""
    return time.clock_gettime_ns(_COARSE_CLOCK) if _LINUX else time.time_ns() - _TICK_NS


def _is_settled(stamp: tuple[int, int, int, int], tick: int) -> bool:
    """Whether every change after `tick` will carry another stamp than this one.

    Stamps of whole milliseconds come from file systems with a coarser clock than the kernel's.
    """
    return stamp[3] < tick and stamp[3] % 1_000_000 != 0


def _trusted(known: dict[int, _Known], *, wait: bool) -> dict[int, _Known]:
    """Those whose stamps are settled by now, or after a tick at most."""
    newest = max((entry.stamp[3] for entry in known.values()), default=0)
    give_up = time.monotonic() + _MAX_TICK_SECONDS
    while wait and _tick() <= newest and time.monotonic() < give_up:
        time.sleep(0.0005)
    tick = _tick()
    return {inode: entry for inode, entry in known.items() if _is_settled(entry.stamp, tick)}


def _remove(path: str, state: os.stat_result | None) -> None:
    """Remove an entry; of a folder, what is in it is gone already."""
    if state is not None:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(path) if stat.S_ISDIR(state.st_mode) else os.unlink(path)


def _write(path: str, node: Node, store: Store, owner: int | None) -> None:
    """Create a file."""
    writer = os.open(path, _NEW, 0o600)
    try:
        store.copy_out(node.content, node.size, writer)
        if owner is not None:
            os.fchown(writer, owner, owner)
        os.fchmod(writer, node.mode)
        os.utime(writer, ns=(node.mtime_ns, node.mtime_ns))
    finally:
        os.close(writer)


def _link(path: str, text: str, state: os.stat_result | None, owner: int | None) -> None:
    """Create a link, unless it is there."""
    if state is not None and stat.S_ISLNK(state.st_mode) and os.readlink(path) == text:
        return
    _remove(path, state)
    os.symlink(text, path)
    _give(path, owner)


def _give(path: str, owner: int | None) -> None:
    if owner is not None:
        os.lchown(path, owner, owner)
