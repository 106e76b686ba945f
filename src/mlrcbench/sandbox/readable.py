"""The paths that every command may read: the system, the interpreter, its packages, not this library.

The library's own folder holds generators, references and scorers. So it is left out wherever it is
installed, together with its metadata, with every package that registers competitions, and with the
checkout that it may run from. Landlock can except nothing below an allowed folder, so there each
folder on the way is replaced by its entries; a private tree covers the paths.

Landlock's rules do not hide the names of files, only their contents.
"""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mlrcbench.sandbox.contract import interpreter

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store")
_ETC = (
    "alternatives", "fonts", "group", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime",
    "magic", "mime.types", "nsswitch.conf", "os-release", "passwd", "pki", "protocols", "services", "ssl",
    "terminfo",
)  # fmt: skip
_CPU = "/sys/devices/system"
_TOO_WIDE = ("/", "/home", "/root", "/tmp", "/var", "/etc")
_NOTE = "the library is not available to commands in its own sandboxes"


@dataclass(frozen=True)
class View:
    """The paths that every sandbox of this process may read.

    Attributes:
        system: Paths that may be read, with everything below them.
        masks: Paths below these that must not be read.
        links: Links that lead to such paths, each with its target.
        entries: `system` without `masks`, as a list that needs no exceptions.
        listed: Folders between these, whose entries may be listed.
    """

    system: tuple[str, ...]
    masks: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    entries: tuple[str, ...]
    listed: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """A dict of JSON types, for the fork server."""
        return {
            "system": list(self.system),
            "masks": list(self.masks),
            "links": [list(pair) for pair in self.links],
            "entries": list(self.entries),
            "listed": list(self.listed),
            "note": _NOTE,
        }


@functools.cache
def view() -> View:
    """The view of this process, computed once."""
    roots = [*_SYSTEM, *(f"/etc/{name}" for name in _ETC), _CPU]
    links: dict[str, str] = {}
    for prefix in _prefixes():
        links.update(_links(prefix))
        roots.append(os.path.realpath(prefix))
    system = tuple(_outermost(path for path in roots if os.path.lexists(path)))
    masks = tuple(sorted(path for path in _excluded() if _covered(path, system)))
    entries, listed = _without(system, masks)
    return View(system, masks, tuple(links.items()), tuple(entries), tuple(listed))


def library_paths() -> tuple[str, ...]:
    """The folders of this library and its data, of which nothing may be made readable."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent.parent if package.parent.name == "src" else package.parent
    if (checkout / "pyproject.toml").exists():
        return (str(package), str(checkout))
    return (str(package),)


def exposure(path: Path, advice: str) -> str:
    """A sentence on a folder that commands can read because of where it lies; empty if they cannot.

    A folder inside one of the masks counts as well: a mask would also cover what is to be shown of it.

    Args:
        path: The folder.
        advice: How the user moves the folder, for example "set TMPDIR".
    """
    real = os.path.realpath(path)
    root = next((root for root in _without_links(view().system) if _covered(real, [root])), "")
    return f"{real} lies in {root}, which agent code may read; {advice} to a folder elsewhere" if root else ""


def closed_to_others() -> str:
    """A folder or file of the interpreter that users other than its owner cannot read; empty if all can.

    Only the interpreter, its modules and the folders of its packages are looked at.
    """
    roots = _without_links(view().system)
    folders = sorted({os.path.dirname(os.__file__), *_site_folders()})
    packages = (os.path.join(folder, name) for folder in folders for name in _names(folder))
    paths = [os.path.dirname(interpreter()), interpreter(), *folders, *filter(os.path.isdir, packages)]
    for path in map(os.path.realpath, paths):
        if not _covered(path, view().masks):
            parts = [str(part) for part in (*reversed(Path(path).parents), path)]
            closed = (part for part in parts if _covered(part, roots) and os.stat(part).st_mode & 0o5 != 0o5)
            if blocked := next(closed, ""):
                return blocked
    return ""


@functools.cache
def _without_links(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Where some paths of the system really lie, looked up once."""
    return tuple(map(os.path.realpath, paths))


def interpreter_paths() -> list[str]:
    """The paths that a command must be able to read to start this interpreter."""
    return [interpreter(), os.path.realpath(interpreter()), os.path.dirname(os.__file__)]


def _prefixes() -> Iterator[str]:
    """The folders of the interpreter and its environment, and of each link on the way to it."""
    for prefix in {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}:
        if os.path.realpath(prefix) not in _TOO_WIDE:
            yield prefix
    path = interpreter()
    while os.path.islink(path):
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
        prefix = os.path.dirname(os.path.dirname(path))
        if os.path.realpath(prefix) not in _TOO_WIDE:
            yield prefix


def _links(path: str) -> Iterator[tuple[str, str]]:
    """Each symbolic link among the folders of a path, with its target."""
    at = "/"
    for part in Path(path).parts[1:]:
        at = os.path.join(at, part)
        if os.path.islink(at):
            target = os.path.realpath(at)
            yield at, target
            at = target


def _outermost(paths: Iterable[str]) -> list[str]:
    """The paths that do not lie below another one; links are not resolved."""
    outermost: list[str] = []
    for path in sorted(set(paths), key=len):
        if not _covered(path, outermost):
            outermost.append(path)
    return outermost


def _covered(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(root + "/") for root in roots)


def _excluded() -> set[str]:
    """The paths of this library, and of packages that register competitions with it."""
    paths = set(library_paths())
    names = {"mlrcbench", *_competition_packages()}
    for folder in _site_folders():
        for parent in (folder, os.path.join(folder, "__pycache__")):
            paths.update(os.path.join(parent, entry) for entry in _names(parent) if _is_of(entry, names))
    return paths


def _is_of(entry: str, names: set[str]) -> bool:
    """Whether a file belongs to this library, or to one of some packages."""
    plain = entry.lower().replace("-", "_")
    return "mlrcbench" in plain or any(
        plain == name or plain.startswith((f"{name}_", f"{name}.")) for name in names
    )


def _competition_packages() -> set[str]:
    names = set()
    for point in metadata.entry_points(group="mlrcbench.competitions"):
        names.add(point.value.split(":")[0].split(".")[0].lower())
        if point.dist is not None:
            names.add(point.dist.name.lower().replace("-", "_"))
    return names


def _site_folders() -> set[str]:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), "/usr/lib/python3/dist-packages"}
    for prefix in {sys.prefix, sys.base_prefix, "/usr", "/usr/local"}:
        folders |= {
            f"{prefix}/{lib}/{version}/{kind}-packages"
            for lib in ("lib", "lib64")
            for kind in ("site", "dist")
        }
    folders |= {path for path in sys.path if path.endswith("-packages")}
    return {os.path.realpath(folder) for folder in folders if os.path.isdir(folder)}


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _without(roots: Iterable[str], masks: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Replace each folder that contains a mask by its entries.

    Returns:
        The paths to allow, and the folders that were replaced.
    """
    allowed: list[str] = []
    listed: list[str] = []
    pending = [root for root in roots if os.path.exists(root)]
    while pending:
        path = pending.pop()
        real = os.path.realpath(path)
        if real in masks:
            continue
        if any(mask.startswith(real + "/") for mask in masks):
            listed.append(real)
            pending += (os.path.join(real, name) for name in _names(real))
        elif os.path.exists(path) and not _covered(real, masks):
            allowed.append(path)
    return allowed, listed
