"""Workspace: a directory with a boundary.

It holds a copy of the starter, the statement, whatever the agent adds, and *views*: links to
read-only folders outside (public data, a split's inputs, outputs too long to show). The file
actions use this module. Every path is resolved folder by folder through descriptors that refuse
links, so neither a text that an agent writes nor a link that it plants leads outside, even while
another process moves things around.

Files that an agent must not change are *protected*: the file actions refuse to write them, and
`clone`, which makes the copy for every evaluation, takes them from the starter, whatever commands
did to them.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import fnmatch
import functools
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlrcbench.errors import WorkspaceError
from mlrcbench.storage.carried import Carried
from mlrcbench.storage.descriptors import READ_FILE, descend, explained, open_root, show
from mlrcbench.storage.layout import RESERVED, STATEMENT
from mlrcbench.storage.trees import Entry, TreeLimits, copy_tree, is_cache, load_tree, walk, write_file
from mlrcbench.text import CRLF_NOTE, cut, passages, replace_passage

_LINK_TRIES = 10
_MOVED = (errno.ENOENT, errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ENOTDIR)
MAX_EDIT_BYTES = 2_000_000
MAX_SCAN_BYTES = 64 << 20
MAX_SOURCES_BYTES = 4_000_000
PAGE_CHARS = 20_000
_DIFF_CHARS = 4_000
_DIFF_LINES = 4_000
_SNIFF_BYTES = 8_192


class Workspace:
    """A workspace on disk.

    Args:
        root: Its folder; made by `create`.
        starter: The competition's starter folder, and what is laid over it.
        statement: Text of the statement.
        editable: Globs over starter files that may change.
        views: Name in the workspace -> folder outside that it shows, read-only.
        limits: Bounds on the number and size of its files.
        carried: The files that `clone` copies; all of them by default.
    """

    def __init__(
        self,
        root: Path,
        *,
        starter: tuple[Path, ...],
        statement: str,
        editable: tuple[str, ...],
        views: Mapping[str, Path],
        limits: TreeLimits,
        carried: Carried | None = None,
    ) -> None:
        self.root = root
        self.views = dict(views)
        self._starter = starter
        self._statement = statement
        self._editable = editable
        self._limits = limits
        self._carried = carried

    @property
    def starter_files(self) -> dict[str, bytes]:
        """The starter's files by relative path."""
        return {path: content for path, _, content in load_tree(*self._starter) if content is not None}

    def create(self) -> None:
        """Make the folder: starter, statement, views."""
        self._lay_out(with_editable=True)
        for name, folder in self.views.items():
            os.symlink(folder, f"{self.root}/{name}")

    def link_views(self) -> None:
        """Put the links to the views (back) in place, whatever became of the folder's mode.

        Raises:
            WorkspaceError: A job keeps replacing them, or they cannot be replaced.
            SandboxError: The folder is gone, or the machine fails in another way.
        """
        root = open_root(self.root)
        try:
            os.fchmod(root, 0o755)
            for name, folder in self.views.items():
                with explained(name):
                    if not any(_link_view(root, name, str(folder)) for _ in range(_LINK_TRIES)):
                        raise WorkspaceError(f"a job keeps changing {name}/, which is reserved; kill the job")
        finally:
            os.close(root)

    def at(self, root: Path, views: Mapping[str, Path]) -> Workspace:
        """The same kind of workspace over another folder."""
        return Workspace(
            root,
            starter=self._starter,
            statement=self._statement,
            editable=self._editable,
            views=views,
            limits=self._limits,
            carried=self._carried,
        )

    def clone(self, root: Path, views: Mapping[str, Path]) -> Workspace:
        """A fresh copy, to evaluate or to keep, with protected files as the starter has them.

        Raises:
            WorkspaceError: The tree or what is carried of it is too large, too deep or cannot be read.
            SandboxError: The disk is full, or the machine fails in another way.
        """
        copy = self.at(root, views)
        os.close(open_root(self.root))  # which gives it back its mode
        root.parent.mkdir(parents=True, exist_ok=True)
        copy._lay_out(with_editable=False)
        only = self._carried.chooser() if self._carried is not None else None
        copy_tree(self.root, root, self._limits, skip=self._is_not_copied, only=only)
        copy.link_views()
        return copy

    def is_editable(self, path: str) -> bool:
        """Whether the card lets an agent change this starter file."""
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in self._editable)

    def files(self) -> list[str]:
        """Relative paths of everything the agent can see; views end in a slash."""
        own = [f"{entry.path}/" if entry.is_folder else entry.path for entry in self._entries()]
        return sorted([*own, *(f"{name}/" for name in self.views)])

    def sources(self) -> list[str]:
        """Texts of the Python files that the agent added or changed, up to 4 MB together."""
        texts: list[str] = []
        remaining = MAX_SOURCES_BYTES
        for entry in self._entries():
            if not entry.is_file or not entry.path.endswith(".py") or entry.info.st_size > remaining:
                continue
            with self._open_file(entry.path) as descriptor:
                data = os.pread(descriptor, entry.info.st_size, 0)
            if self.starter_files.get(entry.path) != data:
                texts.append(data.decode("utf-8", errors="replace"))
                remaining -= len(data)
        return texts

    def text(self, path: str) -> str | None:
        """The text of a file; None if the file cannot be opened, is too long, or is not UTF-8."""
        try:
            with self._open_file(path) as descriptor:
                if os.fstat(descriptor).st_size > MAX_EDIT_BYTES:
                    return None
                return os.read(descriptor, MAX_EDIT_BYTES + 1).decode("utf-8")
        except (WorkspaceError, UnicodeDecodeError):
            return None

    def scrub(self, text: str) -> str:
        """`text` with absolute paths into the workspace and its views made relative.

        Workspaces lie at random paths, and what an agent reads must not depend on them.
        """
        for name, folder in self.views.items():
            text = text.replace(str(folder), name)
        return text.replace(f"{self.root}/", "./").replace(str(self.root), ".")

    def read(self, path: str, start: int = 1, end: int | None = None) -> str:
        """Lines `start` to `end` of a text file, numbered, and a note on what follows.

        Raises:
            WorkspaceError: The path is not valid, or the file cannot be read as text.
        """
        if end is not None and end < start:
            raise WorkspaceError(f"'end' is {end}, and 'start' is {start}; the end must not come before it")
        with self._open_file(path) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
            if b"\0" in file.peek(_SNIFF_BYTES)[:_SNIFF_BYTES]:
                raise WorkspaceError(f"{show(path)} is binary; use run with a program that can read it")
            lines: list[str] = []
            chars = scanned = number = 0
            while line := file.readline(MAX_SCAN_BYTES):
                number += 1
                scanned += len(line)
                if scanned > MAX_SCAN_BYTES:
                    raise WorkspaceError(
                        f"{show(path)} is too long to search for line {start}; use run with sed or tail"
                    )
                if number < start:
                    continue
                if (end is not None and number > end) or chars > PAGE_CHARS:
                    return "".join(lines) + f"[{show(path)} has more lines; continue with start={number}]"
                if line.endswith(b"\r\n") and CRLF_NOTE not in lines[:1]:
                    lines.insert(0, CRLF_NOTE)
                plain = line.removesuffix(b"\n").removesuffix(b"\r")
                text = cut(plain.decode("utf-8", errors="replace"), PAGE_CHARS)
                lines.append(f"{number:6d}  {text}\n")
                chars += len(lines[-1])
        if not lines:
            return f"[{show(path)} has {number:,} lines]"
        return "".join(lines) + f"[end of {show(path)}, {number:,} lines]"

    def write(self, path: str, text: str) -> str:
        """Create or replace a text file; returns what was done.

        Raises:
            WorkspaceError: The path is protected, leads outside, or cannot be written.
        """
        parts = self._writable(path)
        before = self.text(path)
        self._replace(parts, text)
        size = f"{len(text.encode('utf-8')):,} bytes"
        if before is None:
            return f"created {show(path)}, {size}"
        return f"replaced {show(path)}, {size}\n{_diff(before, text, path)}".rstrip()

    def edit(self, path: str, old: str, new: str) -> str:
        """Replace the only occurrence of `old`; returns the diff.

        Raises:
            WorkspaceError: `old` does not occur exactly once, or as for `write`.
        """
        parts = self._writable(path)
        if not old:
            raise WorkspaceError("'old' is empty; use write_file to create a file")
        before = self.text(path)
        if before is None:
            with self._open_file(path):
                raise WorkspaceError(f"{show(path)} is not a text file of at most {MAX_EDIT_BYTES:,} bytes")
        count = passages(before, old)
        if count != 1:
            raise WorkspaceError(_no_single_match(path, before, old, count))
        after = replace_passage(before, old, new)
        self._replace(parts, after)
        return f"edited {show(path)}\n{_diff(before, after, path)}".rstrip()

    def _lay_out(self, *, with_editable: bool) -> None:
        """Make the folder with the starter's files and the statement."""
        root = str(self.root)
        os.mkdir(root)
        for path, mode, content in load_tree(*self._starter):
            if content is None:
                os.mkdir(f"{root}/{path}")
            elif with_editable or not self.is_editable(path):
                write_file(f"{root}/{path}", mode, content)
        write_file(f"{root}/{STATEMENT}", 0o644, self._statement.encode("utf-8"))

    def _entries(self) -> Iterator[Entry]:
        return walk(self.root, self._limits, skip=self._is_reserved)

    def _is_reserved(self, path: str) -> bool:
        return path in RESERVED or path in self.views or is_cache(path)

    @functools.cached_property
    def _protected(self) -> frozenset[str]:
        return frozenset({STATEMENT, *(path for path in self.starter_files if not self.is_editable(path))})

    def _is_not_copied(self, path: str) -> bool:
        """Whether a clone gets a path from elsewhere, whatever lies there now, and below it."""
        return self._is_reserved(path) or path in self._protected

    def _writable(self, path: str) -> tuple[str, ...]:
        """The parts of a path, if the file actions may write it."""
        parts = _parts(path)
        if path.endswith(("/", "/.")):
            raise WorkspaceError(f"{show(path)} names a folder; give the path of a file in it")
        plain = "/".join(parts)
        if parts[0] in RESERVED or parts[0] in self.views:
            raise WorkspaceError(f"{parts[0]}/ is reserved and read-only; write elsewhere")
        if plain in self._protected:
            editable = ", ".join(self._editable)
            raise WorkspaceError(f"{show(path)} is protected; you may change {editable} and add new files")
        return parts

    @contextlib.contextmanager
    def _open_file(self, path: str) -> Iterator[int]:
        """A descriptor of a regular file, reached without following any link."""
        parts = _parts(path)
        root = self.root
        if parts[0] in self.views:
            root, parts = self.views[parts[0]], parts[1:]
        with descend(root, parts[:-1], path) as folder, explained(path):
            descriptor = os.open(parts[-1] if parts else ".", READ_FILE, dir_fd=folder)
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                raise WorkspaceError(f"{show(path)} is a folder; use run with ls to list it")
            if not stat.S_ISREG(mode):
                raise WorkspaceError(f"{show(path)} is not a regular file")
            with explained(path):
                yield descriptor
        finally:
            os.close(descriptor)

    def _replace(self, parts: tuple[str, ...], text: str) -> None:
        """Replace a file in one step: a temporary file in the same folder takes its name."""
        path, scratch = "/".join(parts), f".writing-{secrets.token_hex(8)}"
        with descend(self.root, parts[:-1], path, create=True) as folder, explained(path):
            mode = _mode(folder, parts[-1], path)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(scratch, flags, mode, dir_fd=folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(text.encode("utf-8"))
                os.rename(scratch, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(scratch, dir_fd=folder)
                raise


def _link_view(root: int, name: str, folder: str) -> bool:
    """Put one link in place; False if another process interfered."""
    try:
        state = os.stat(name, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        state = None
    try:
        if state is not None and stat.S_ISLNK(state.st_mode) and os.readlink(name, dir_fd=root) == folder:
            return True
        if state is not None and stat.S_ISDIR(state.st_mode):
            os.rename(name, f"{name}.moved-{secrets.token_hex(4)}", src_dir_fd=root, dst_dir_fd=root)
        elif state is not None:
            os.unlink(name, dir_fd=root)
        os.symlink(folder, name, dir_fd=root)
        return True
    except OSError as error:
        if error.errno not in _MOVED:
            raise
        return False


def _parts(path: str) -> tuple[str, ...]:
    """The folders and the name of a path that an agent gave."""
    if "\0" in path:
        raise WorkspaceError("a path must not contain a NUL character")
    if path.startswith("/"):
        raise WorkspaceError(f"{show(path)} is absolute; give a path relative to the workspace")
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if not parts:
        raise WorkspaceError(f"{show(path)} does not name a file; a valid path is, for example, 'method.py'")
    if ".." in parts:
        raise WorkspaceError(f"{show(path)} contains '..'; give a path without it")
    return parts


def _mode(folder: int, name: str, path: str) -> int:
    """Permission bits for a new version of a file."""
    try:
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return 0o644
    if stat.S_ISDIR(info.st_mode):
        raise WorkspaceError(f"{show(path)} is a folder; choose another name")
    if stat.S_ISLNK(info.st_mode):
        raise WorkspaceError(f"{show(path)} is a symbolic link; remove it first, with run")
    return stat.S_IMODE(info.st_mode) & 0o777 | 0o600


def _no_single_match(path: str, text: str, old: str, count: int) -> str:
    """Why an edit was refused, and what to do."""
    text, old = text.replace("\r\n", "\n"), old.replace("\r\n", "\n")
    if count == 0:
        first = old.strip().splitlines()[0].strip() if old.strip() else ""
        numbers = [str(n) for n, line in enumerate(text.splitlines(), 1) if first and first in line]
        hint = f"its first line occurs at line {', '.join(numbers[:5])}; " if numbers else ""
        return f"'old' does not occur in {show(path)}; {hint}read the file and copy the passage exactly"
    places: list[str] = []
    position = text.find(old)
    while position >= 0 and len(places) < 10:
        places.append(str(text.count("\n", 0, position) + 1))
        position = text.find(old, position + max(1, len(old)))
    lines = ", ".join(places)
    return f"'old' occurs {count} times in {show(path)}, at lines {lines}; include more lines around it"


def _diff(before: str, after: str, path: str) -> str:
    """A unified diff, cut, of texts small enough to compare."""
    old, new = before.splitlines(), after.splitlines()
    if len(old) + len(new) > _DIFF_LINES:
        return ""
    return cut("\n".join(difflib.unified_diff(old, new, path, path, n=2, lineterm="")), _DIFF_CHARS)
