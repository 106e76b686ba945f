"""CapturedFolder: a folder that is captured into a store, and laid out from it again.

Both walk over the whole folder. Capturing reads only files whose inode, size or times have changed
since they were last read or written here; laying out touches only what differs.

When does the same inode, size and times mean the same content? The kernel stamps a change with a
clock that ticks every few milliseconds, so two changes within a tick can carry the same stamp, and
memory that is mapped into a running process can change a file without any stamp. So a file is
remembered only while nothing runs in the folder, and only if its last change lies before the tick in
which it was read. Agent code can set the time of modification, but never the time of the inode's
change.

Agent code may be running during a capture (a job), so every folder is opened through its parent, and
no link is followed. No file is read beyond the size that was counted. Nothing runs while a tree is
laid out.
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
from mlrcbench.storage.descriptors import MAX_PATH_BYTES, READ_FILE
from mlrcbench.storage.snapshots.content_store import ContentStore
from mlrcbench.storage.snapshots.manifest import MAX_FILE_BYTES, ROOT, Manifest, Node
from mlrcbench.storage.trees import TreeLimits, hash_file, remove_tree

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# After writing this much, waiting for the next tick is cheaper than reading the files again later.
_MANY_FILES = 64
_MANY_BYTES = 4 << 20
_MAX_TICK_SECONDS = 0.05
_BLOCK = 4096
_ENDLESS = 1 << 62
_LINUX = sys.platform.startswith("linux")
_COARSE_CLOCK = 5  # CLOCK_REALTIME_COARSE, which the module `time` does not name
_TICK_NS = 20_000_000


class _Known(NamedTuple):
    """A file at the moment at which its content was last known."""

    stamp: tuple[int, int, int, int]
    path: str
    node: Node


class CapturedFolder:
    """A folder, and what is known of the files in it.

    Args:
        root: Path of the folder, which need not exist.
        limits: Bounds on a tree.
    """

    def __init__(self, root: Path, limits: TreeLimits) -> None:
        self.root = root
        self._limits = limits
        self._known: dict[int, _Known] = {}

    def capture(self, store: ContentStore, views: Mapping[str, Path], *, still: bool = True) -> Manifest:
        """The present tree; its contents are put into a store.

        Pipes, sockets and devices are left out; hard links become separate files. A file
        that is being written is captured as it was read. A folder that does not exist is empty.

        Args:
            store: Receives contents that it does not have.
            views: Links that are recorded by name; see `Node`.
            still: Whether no process runs in the folder.

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

    def lay_out(self, tree: Manifest, store: ContentStore, views: Mapping[str, Path]) -> int:
        """Make the folder equal to a tree; no process may be running in it.

        After an error, the folder is neither the old tree nor the new one.

        Args:
            tree: The new content of the folder.
            store: The store that has the contents.
            views: Name of a view -> the folder that its link leads to.

        Returns:
            Bytes that the folder took on the disk before; at least one block for each entry.

        Raises:
            SnapshotError: A content is missing.
            WorkspaceError: The disk is full.
        """
        try:
            return self._lay_out(tree, store, views)
        except OSError as error:
            raise WorkspaceError(f"{self.root.name} cannot be restored: {error.strerror}") from error

    def _walk(self) -> Iterator[tuple[int, list[tuple[str, os.stat_result]]]]:
        """Each open folder with the paths and states of its entries; a folder comes before its subfolders."""
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
        self, store: ContentStore, folder: int, path: str, state: os.stat_result, views: Mapping[str, Path]
    ) -> Node | None:
        """An entry as a node; None if its kind is left out, or if it has disappeared."""
        mode = stat.S_IMODE(state.st_mode) & 0o777
        if stat.S_ISDIR(state.st_mode):
            return Node("folder", mode, state.st_mtime_ns)
        if stat.S_ISREG(state.st_mode):
            content = self._content(store, folder, path, state)
            if content is None:
                return None
            digest, size = content
            return Node("file", mode, state.st_mtime_ns, size, digest)
        if stat.S_ISLNK(state.st_mode):
            try:
                text = os.readlink(os.path.basename(path), dir_fd=folder)
            except OSError:
                return None
            is_view = path in views and text == str(views[path])
            return Node("view", content=path) if is_view else Node("link", content=text)
        return None

    def _content(
        self, store: ContentStore, folder: int, path: str, state: os.stat_result
    ) -> tuple[str, int] | None:
        """Digest and size of a file, which is read only if it is not known; None if it has disappeared."""
        known = self._known.get(state.st_ino)
        if known is not None and known.stamp == _stamp(state) and known.node.content in store.sizes:
            return known.node.content, known.node.size
        if state.st_size > MAX_FILE_BYTES:
            raise WorkspaceError(f"{path[:200]!r} has over {MAX_FILE_BYTES:,} bytes; split or remove it")
        try:
            descriptor = os.open(os.path.basename(path), READ_FILE, dir_fd=folder)
        except PermissionError:
            raise WorkspaceError(f"{path[:200]!r} cannot be read; fix it with chmod u+r") from None
        except OSError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return store.put(descriptor, state.st_size)
        finally:
            os.close(descriptor)

    def _lay_out(self, tree: Manifest, store: ContentStore, views: Mapping[str, Path]) -> int:
        owner = self._owner()
        now, taken = self._now()
        for path in reversed([path for path in now if path != ROOT and path not in tree]):
            _remove(f"{self.root}/{path}", now[path])
        known: dict[int, _Known] = {}
        files = total = 0
        for path, node in tree.items():
            goal, state = f"{self.root}/{path}", now.get(path)
            if node.kind == "file":
                if state is not None and self._has_content(goal, node, state):
                    _set_mode_and_time(goal, node, state)
                else:
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
        """The user that new entries must belong to, if commands run as another user than this process."""
        self.root.mkdir(mode=0o755, exist_ok=True)
        owner = self.root.lstat().st_uid
        return None if owner == os.geteuid() else owner

    def _now(self) -> tuple[dict[str, os.stat_result], int]:
        """The present entries, with every folder made writable, and their size on the disk.

        A folder that exceeds its limits is emptied.
        """
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

    def _has_content(self, path: str, node: Node, state: os.stat_result) -> bool:
        """Whether a path is a file with a node's content, and has no other name."""
        if not stat.S_ISREG(state.st_mode) or state.st_size != node.size or state.st_nlink != 1:
            return False
        known = self._known.get(state.st_ino)
        if known is not None and known.stamp == _stamp(state):
            digest = known.node.content
        else:
            try:
                digest = hash_file(path)
            except PermissionError:
                return False
        return digest == node.content


def _set_mode_and_time(path: str, node: Node, state: os.stat_result) -> None:
    """Set a file's mode and time to those of a node, where they differ."""
    if stat.S_IMODE(state.st_mode) != node.mode:
        os.chmod(path, node.mode)
    if state.st_mtime_ns != node.mtime_ns:
        os.utime(path, ns=(node.mtime_ns, node.mtime_ns))


def _open_folder(parent: int | None, name: str, path: str) -> int | None:
    """Open a folder; None if it has disappeared, or is not a folder any more.

    Raises:
        WorkspaceError: The folder cannot be read.
    """
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        raise WorkspaceError(
            f"the folder {path[:200]!r} cannot be read; fix it with chmod u+rwx, or remove it"
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise WorkspaceError(f"the folder {path[:200]!r} cannot be read: {error.strerror}") from error


def _entries(folder: int, prefix: str, limit: int) -> list[tuple[str, os.stat_result]]:
    """Paths and states of the entries of an open folder; at most one more than `limit`."""
    entries: list[tuple[str, os.stat_result]] = []
    try:
        with os.scandir(folder) as listing:
            for entry in itertools.islice(listing, limit + 1):
                path = prefix + entry.name
                try:
                    state = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if len(path) > MAX_PATH_BYTES // 4 and len(os.fsencode(path)) > MAX_PATH_BYTES:
                    raise WorkspaceError(
                        f"a path is longer than {MAX_PATH_BYTES:,} bytes; flatten the folders"
                    )
                entries.append((path, state))
    except OSError as error:
        raise WorkspaceError(f"the folder {prefix[:200]!r} cannot be listed: {error.strerror}") from error
    return entries


def _stamp(state: os.stat_result) -> tuple[int, int, int, int]:
    return state.st_mode, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _tick() -> int:
    """The clock that the kernel stamps changes with, or a time before it, in nanoseconds."""
    return time.clock_gettime_ns(_COARSE_CLOCK) if _LINUX else time.time_ns() - _TICK_NS


def _is_settled(stamp: tuple[int, int, int, int], tick: int) -> bool:
    """Whether every change after `tick` will carry another stamp than this one.

    Stamps of whole milliseconds come from file systems with a coarser clock than the kernel's.
    """
    return stamp[3] < tick and stamp[3] % 1_000_000 != 0


def _trusted(known: dict[int, _Known], *, wait: bool) -> dict[int, _Known]:
    """The files whose stamps are settled now, or after waiting for one tick at most."""
    newest = max((entry.stamp[3] for entry in known.values()), default=0)
    give_up = time.monotonic() + _MAX_TICK_SECONDS
    while wait and _tick() <= newest and time.monotonic() < give_up:
        time.sleep(0.0005)
    tick = _tick()
    return {inode: entry for inode, entry in known.items() if _is_settled(entry.stamp, tick)}


def _remove(path: str, state: os.stat_result | None) -> None:
    """Remove an entry; a folder must be empty."""
    if state is not None:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(path) if stat.S_ISDIR(state.st_mode) else os.unlink(path)


def _write(path: str, node: Node, store: ContentStore, owner: int | None) -> None:
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
    """Create a link, unless it exists."""
    if state is not None and stat.S_ISLNK(state.st_mode) and os.readlink(path) == text:
        return
    _remove(path, state)
    os.symlink(text, path)
    _give(path, owner)


def _give(path: str, owner: int | None) -> None:
    """Change the owner of an entry, unless `owner` is None."""
    if owner is not None:
        os.lchown(path, owner, owner)
