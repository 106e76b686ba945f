"""Routes that change what a later episode, or the host, relies on.

Files of others are overwritten with what they already hold, so that a route that succeeds does no
harm: the host sees by the times of the file that it could have been changed.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from typing import Any

Facts = dict[str, Any]


def write(path: str) -> None:
    """Overwrite the first byte with itself."""
    descriptor = os.open(path, os.O_RDWR)
    byte = os.pread(descriptor, 1, 0)
    os.pwrite(descriptor, byte, 0)
    os.close(descriptor)


def append(path: str) -> None:
    """Open a file for appending, as if to add a line to a record."""
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
    os.utime(path, None)


def truncate(path: str) -> None:
    """Cut a file to its own length, by its path."""
    os.truncate(path, os.stat(path).st_size)


def rename(path: str) -> None:
    """Move a file away and back."""
    os.rename(path, f"{path}.moved")
    os.rename(f"{path}.moved", path)


def replace(path: str) -> None:
    """Make and remove a file in the same folder, which shows that the file could be replaced."""
    descriptor, name = tempfile.mkstemp(dir=os.path.dirname(path))
    os.close(descriptor)
    os.unlink(name)


def mode(path: str) -> None:
    """Set a file's permission bits."""
    os.chmod(path, os.stat(path).st_mode & 0o7777)


def times(path: str) -> None:
    """Set a file's times, in which data can be carried."""
    info = os.stat(path)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def attribute(path: str) -> None:
    """Set an extended attribute of a file, in which data can be carried."""
    os.setxattr(path, "user.attack", b"x")
    os.removexattr(path, "user.attack")


WAYS = {
    "write": write,
    "append": append,
    "truncate": truncate,
    "rename": rename,
    "replace": replace,
    "mode": mode,
    "times": times,
    "attribute": attribute,
}


def tamper(way: str) -> Callable[[Facts], Any]:
    """A route that does the same to each target."""

    def route(facts: Facts) -> list[str]:
        claims = []
        first: OSError | None = None
        for path in facts["targets"]:
            try:
                WAYS[way](path)
                claims.append(f"claim:{way}:{os.path.basename(path)}")
            except OSError as error:
                first = first or error
        if first is not None and not claims:
            raise first
        return claims

    return route


def destroy(facts: Facts) -> None:
    """Empty and delete the trusted process's file, and rename its folder."""
    folder = os.path.dirname(facts["token_file"])
    with contextlib.suppress(OSError):
        os.truncate(facts["token_file"], 0)
    with contextlib.suppress(OSError):
        os.unlink(facts["token_file"])
    with contextlib.suppress(OSError):
        os.rename(folder, f"{folder}.gone")


def new_file(facts: Facts) -> None:
    """Leave a file in every folder that somebody may read later."""
    for folder in facts["folders"]:
        with contextlib.suppress(OSError):
            os.makedirs(folder, exist_ok=True)
        with contextlib.suppress(OSError):
            os.close(os.open(f"{folder}/{facts['marker']}.pth", os.O_WRONLY | os.O_CREAT))


def new_shared_memory(facts: Facts) -> None:
    """Leave a file in /dev/shm."""
    os.close(os.open(f"/dev/shm/{facts['marker']}.pth", os.O_WRONLY | os.O_CREAT))


ROUTES: dict[str, Callable[[Facts], Any]] = {
    **{f"tamper-{way}": tamper(way) for way in WAYS},
    "destroy": destroy,
    "leave-files": new_file,
    "leave-shared-memory": new_shared_memory,
}
