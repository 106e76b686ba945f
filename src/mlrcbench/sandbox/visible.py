"""What every command may read: the system, the interpreter, its packages, and not this library.

The library's own folder holds generators, references and scorers, so it is left out wherever
it is installed, together with its metadata, with every package that registers competitions,
and with a checkout it is run from. Landlock knows no exception below an allowed folder, so
there each folder on the way is replaced by its entries; a private tree covers the paths.

Names of files are not hidden by Landlock's rules, only what is in them.
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
    """What every sandbox of this process may see.

    Attributes:
        system: Paths that may be read, with everything below.
        masks: Paths below these that must not.
        links: Other names of such paths, with what they point to.
        entries: `system` without `masks`, as a list without exceptions.
        listed: Folders on the way whose names may be listed.
    """

    system: tuple[str, ...]
    masks: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    entries: tuple[str, ...]
    listed: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """What the template is told."""
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
    for prefix in _interpreter():
        links.update(_links(prefix))
        roots.append(os.path.realpath(prefix))
    system = tuple(_outermost(path for path in roots if os.path.lexists(path)))
    masks = tuple(sorted(path for path in _excluded() if _covered(path, system)))
    entries, listed = _without(system, masks)
    return View(system, masks, tuple(links.items()), tuple(entries), tuple(listed))


def library_paths() -> tuple[str, ...]:
    """Where this library and its data lie; nothing of it may be made readable."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent.parent if package.parent.name == "src" else package.parent
    if (checkout / "pyproject.toml").exists():
        return (str(package), str(checkout))
    return (str(package),)


def interpreter_paths() -> list[str]:
    """What a command must be able to read to start this interpreter."""
    return [sys.executable, os.path.realpath(sys.executable), os.path.dirname(os.__file__)]


def _interpreter() -> Iterator[str]:
    """Folders of the interpreter and its environment, and of each link on the way to it."""
    for prefix in {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}:
        if os.path.realpath(prefix) not in _TOO_WIDE:
            yield prefix
    path = sys.executable
    while os.path.islink(path):
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
        prefix = os.path.dirname(os.path.dirname(path))
        if os.path.realpath(prefix) not in _TOO_WIDE:
            yield prefix


def _links(path: str) -> Iterator[tuple[str, str]]:
    """Each symbolic link among the folders of a path, with what it points to."""
    at = "/"
    for part in Path(path).parts[1:]:
        at = os.path.join(at, part)
        if os.path.islink(at):
            target = os.path.realpath(at)
            yield at, target
            at = target


def _outermost(paths: Iterable[str]) -> list[str]:
    """The paths that lie in no other one; links stay, they are names of their own."""
    chosen: list[str] = []
    for path in sorted(set(paths), key=len):
        if not _covered(path, chosen):
            chosen.append(path)
    return chosen


def _covered(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(root + "/") for root in roots)


def _excluded() -> set[str]:
    """Paths of this library, and of packages that register competitions with it."""
    found = set(library_paths())
    names = {"mlrcbench", *_competition_packages()}
    for folder in _site_folders():
        for place in (folder, os.path.join(folder, "__pycache__")):
            found.update(os.path.join(place, one) for one in _names(place) if _is_of(one, names))
    return found


def _is_of(entry: str, names: set[str]) -> bool:
    plain = entry.lower().replace("-", "_")
    return "mlrcbench" in plain or any(
        plain == name or plain.startswith((f"{name}_", f"{name}.")) for name in names
    )


def _competition_packages() -> set[str]:
    found = set()
    for point in metadata.entry_points(group="mlrcbench.competitions"):
        found.add(point.value.split(":")[0].split(".")[0].lower())
        if point.dist is not None:
            found.add(point.dist.name.lower().replace("-", "_"))
    return found


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
    """Replace each folder above a mask by its entries.

    Returns:
        Paths to allow, and the folders that were replaced.
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
