"""Workspace: a directory with a boundary.

It holds a copy of the starter, the statement, whatever the agent adds, and *views*: links to
read-only folders outside (public data, a split's inputs, outputs too long to show). The file
actions go through here. Every path is resolved folder by folder through descriptors that
refuse links, so no text an agent can write and no link it can plant leads outside, even
while another process moves things around.

What an agent must not change is *protected*: the file actions refuse it, and `clone`, from
which every evaluation runs, takes it from the starter whatever commands did to it.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import fnmatch
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlrcbench.errors import WorkspaceError
from mlrcbench.files import Entry, TreeLimits, copy_tree, is_cache, load_tree, walk, write_file
from mlrcbench.observation import cut

STATEMENT = "statement.md"
DATA = "data"
INPUTS = "inputs"
OUTPUTS = "outputs"
ARTEFACTS = "artefacts"
RESERVED = (DATA, INPUTS, OUTPUTS, ARTEFACTS)

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
        limits: Bounds on what an agent may pile up in it.
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
    ) -> None:
        self.root = root
        self.views = dict(views)
        self._starter = starter
        self._statement = statement
        self._editable = editable
        self._limits = limits

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
            WorkspaceError: A job keeps putting something else there.
        """
        self.root.chmod(0o755)
        for name, folder in self.views.items():
            if not any(self._link_view(self.root / name, folder) for _ in range(_LINK_TRIES)):
                raise WorkspaceError(f"a job keeps changing {name}/, which is reserved; kill the job")

    def _link_view(self, path: Path, folder: Path) -> bool:
        """Put one link in place; False if something else moved there meanwhile."""
        try:
            if path.is_symlink() and os.readlink(path) == str(folder):
                return True
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.exists():
                path.rename(f"{path}.moved-{secrets.token_hex(4)}")
            path.symlink_to(folder)
            return True
        except OSError as error:
            if error.errno not in _MOVED:
                raise
            return False

    def at(self, root: Path, views: Mapping[str, Path]) -> Workspace:
        """The same kind of workspace over another folder."""
        return Workspace(
            root,
            starter=self._starter,
            statement=self._statement,
            editable=self._editable,
            views=views,
            limits=self._limits,
        )

    def clone(self, root: Path, views: Mapping[str, Path]) -> Workspace:
        """A fresh copy for one evaluation, or to keep: protected files as the starter has them.

        Raises:
            WorkspaceError: The tree is too large, too deep or cannot be read.
        """
        copy = self.at(root, views)
        root.parent.mkdir(parents=True, exist_ok=True)
        copy._lay_out(with_editable=False)
        copy_tree(self.root, root, self._limits, skip=self._is_reserved)
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
        found: list[str] = []
        left = MAX_SOURCES_BYTES
        for entry in self._entries():
            if not entry.is_file or not entry.path.endswith(".py") or entry.info.st_size > left:
                continue
            data = (self.root / entry.path).read_bytes()
            if self.starter_files.get(entry.path) != data:
                found.append(data.decode("utf-8", errors="replace"))
                left -= len(data)
        return found

    def text(self, path: str) -> str | None:
        """The text of a file; None if there is none, it is too long, or it is not UTF-8."""
        try:
            with self._open_file(path) as descriptor:
                if os.fstat(descriptor).st_size > MAX_EDIT_BYTES:
                    return None
                return os.read(descriptor, MAX_EDIT_BYTES + 1).decode("utf-8")
        except (WorkspaceError, UnicodeDecodeError):
            return None

    def scrub(self, text: str) -> str:
        """`text` with the machine's paths as the agent should see them: relative ones.

        Workspaces lie at random paths; what is told to an agent must not depend on them.
        """
        for name, folder in self.views.items():
            text = text.replace(str(folder), name)
        return text.replace(f"{self.root}/", "./").replace(str(self.root), ".")

    def read(self, path: str, start: int = 1, end: int | None = None) -> str:
        """Lines `start` to `end` of a text file, numbered, and where to read on.

        Raises:
            WorkspaceError: The path or the file cannot be read so.
        """
        with self._open_file(path) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
            if b"\0" in file.peek(_SNIFF_BYTES)[:_SNIFF_BYTES]:
                raise WorkspaceError(f"{_show(path)} is binary; use run with a program that understands it")
            lines: list[str] = []
            shown = scanned = number = 0
            while line := file.readline(MAX_SCAN_BYTES):
                number += 1
                scanned += len(line)
                if scanned > MAX_SCAN_BYTES:
                    raise WorkspaceError(
                        f"{_show(path)} is too long to count to line {start}; use run with sed or tail"
                    )
                if number < start:
                    continue
                if (end is not None and number > end) or shown > PAGE_CHARS:
                    return "".join(lines) + f"[{_show(path)} goes on; read on from line {number}]"
                text = cut(line.decode("utf-8", errors="replace").rstrip("\n"), PAGE_CHARS)
                lines.append(f"{number:6d}  {text}\n")
                shown += len(lines[-1])
        if not lines:
            return f"[{_show(path)} has {number:,} lines]"
        return "".join(lines) + f"[end of {_show(path)}, {number:,} lines]"

    def write(self, path: str, text: str) -> str:
        """Create or replace a text file; returns one line that says so.

        Raises:
            WorkspaceError: The path is protected, outside, or cannot be written.
        """
        parts = self._writable(path)
        before = self.text(path)
        self._replace(parts, text)
        size = f"{len(text.encode('utf-8')):,} bytes"
        if before is None:
            return f"created {_show(path)}, {size}"
        return f"replaced {_show(path)}, {size}\n{_diff(before, text, path)}".rstrip()

    def edit(self, path: str, old: str, new: str) -> str:
        """Replace the one place where `old` stands; returns the diff.

        Raises:
            WorkspaceError: `old` does not stand there exactly once, or as for `write`.
        """
        parts = self._writable(path)
        if not old:
            raise WorkspaceError("'old' is empty; use write_file to create a file")
        before = self.text(path)
        if before is None:
            with self._open_file(path):
                raise WorkspaceError(f"{_show(path)} is no text file under {MAX_EDIT_BYTES:,} bytes")
        count = before.count(old)
        if count != 1:
            raise WorkspaceError(_no_single_match(path, before, old, count))
        after = before.replace(old, new)
        self._replace(parts, after)
        return f"edited {_show(path)}\n{_diff(before, after, path)}".rstrip()

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

    def _writable(self, path: str) -> tuple[str, ...]:
        """The parts of a path that the file actions may write."""
        parts = _parts(path)
        plain = "/".join(parts)
        if parts[0] in RESERVED or parts[0] in self.views:
            raise WorkspaceError(f"{parts[0]}/ is reserved and read-only; write elsewhere")
        if plain == STATEMENT or (plain in self.starter_files and not self.is_editable(plain)):
            editable = ", ".join(self._editable)
            raise WorkspaceError(f"{_show(path)} is protected; you may change {editable} and add new files")
        return parts

    @contextlib.contextmanager
    def _open_file(self, path: str) -> Iterator[int]:
        """A descriptor of a regular file, reached without following any link."""
        parts = _parts(path)
        root = self.root
        if parts[0] in self.views:
            root, parts = self.views[parts[0]], parts[1:]
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with _descend(root, parts[:-1], path) as folder, _explained(path):
            descriptor = os.open(parts[-1] if parts else ".", flags, dir_fd=folder)
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                raise WorkspaceError(f"{_show(path)} is a folder; use run with ls to list it")
            if not stat.S_ISREG(mode):
                raise WorkspaceError(f"{_show(path)} is no regular file")
            yield descriptor
        finally:
            os.close(descriptor)

    def _replace(self, parts: tuple[str, ...], text: str) -> None:
        """Write a file at once: a temporary one in the same folder takes its name."""
        path, scratch = "/".join(parts), f".writing-{secrets.token_hex(8)}"
        with _descend(self.root, parts[:-1], path, create=True) as folder, _explained(path):
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


def _parts(path: str) -> tuple[str, ...]:
    """The folders and the name of a path that an agent gave."""
    if "\0" in path:
        raise WorkspaceError("a path must not contain a NUL character")
    if path.startswith("/"):
        raise WorkspaceError(f"{_show(path)} is absolute; give a path relative to the workspace")
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if not parts:
        raise WorkspaceError(f"{_show(path)} names no file; for example 'method.py' does")
    if ".." in parts:
        raise WorkspaceError(f"{_show(path)} contains '..'; give a path without it")
    return parts


@contextlib.contextmanager
def _descend(root: Path, folders: tuple[str, ...], path: str, create: bool = False) -> Iterator[int]:
    """A descriptor of a folder below `root`; each step refuses links."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(root, flags)
    try:
        for name in folders:
            with _explained(path):
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, dir_fd=descriptor)
                deeper = os.open(name, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = deeper
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn the system's errors into sentences."""
    try:
        yield
    except UnicodeEncodeError:
        raise WorkspaceError(f"{_show(path)} is not valid Unicode") from None
    except OSError as error:
        reasons = {
            errno.ENOENT: "does not exist; use run with ls to see what does",
            errno.ELOOP: "is, or goes through, a symbolic link; the file actions follow none",
            errno.ENOTDIR: "goes through something that is no folder, or a symbolic link",
            errno.ENAMETOOLONG: "has a name that is too long",
            errno.EISDIR: "is a folder",
        }
        reason = reasons.get(error.errno or 0, f"cannot be used: {error.strerror}")
        raise WorkspaceError(f"{_show(path)} {reason}") from None


def _mode(folder: int, name: str, path: str) -> int:
    """Permission bits for a new version of a file."""
    try:
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return 0o644
    if stat.S_ISDIR(info.st_mode):
        raise WorkspaceError(f"{_show(path)} is a folder; choose another name")
    if stat.S_ISLNK(info.st_mode):
        raise WorkspaceError(f"{_show(path)} is a symbolic link; remove it first, with run")
    return stat.S_IMODE(info.st_mode) & 0o777 | 0o600


def _show(path: str) -> str:
    """A path for a message: never long, never with control characters."""
    return repr(path if len(path) <= 200 else f"{path[:100]}...{path[-60:]}")


def _no_single_match(path: str, text: str, old: str, count: int) -> str:
    """Why an edit was refused, and what to do."""
    if count == 0:
        first = old.strip().splitlines()[0].strip() if old.strip() else ""
        near = [str(n) for n, line in enumerate(text.splitlines(), 1) if first and first in line]
        hint = f"its first line stands in line {', '.join(near[:5])}; " if near else ""
        return f"'old' does not stand in {_show(path)}; {hint}read the file and copy the passage exactly"
    places: list[str] = []
    position = text.find(old)
    while position >= 0 and len(places) < 10:
        places.append(str(text.count("\n", 0, position) + 1))
        position = text.find(old, position + max(1, len(old)))
    return f"'old' stands {count} times in {_show(path)}, at lines {', '.join(places)}; add lines around it"


def _diff(before: str, after: str, path: str) -> str:
    """A unified diff, cut, of texts small enough to compare."""
    old, new = before.splitlines(), after.splitlines()
    if len(old) + len(new) > _DIFF_LINES:
        return ""
    return cut("\n".join(difflib.unified_diff(old, new, path, path, n=2, lineterm="")), _DIFF_CHARS)
