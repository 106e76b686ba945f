"""Routes that change what a later episode, or the host, relies on.

What is not the attackers' own is changed into what it is already, so that a route that succeeds
does no harm: the host sees by the times of the file that it could have been changed.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from typing import Any

Told = dict[str, Any]


def write(path: str) -> None:
    """Overwrite the first byte with itself."""
    descriptor = os.open(path, os.O_RDWR)
    byte = os.pread(descriptor, 1, 0)
    os.pwrite(descriptor, byte, 0)
    os.close(descriptor)


def append(path: str) -> None:
    """Open for appending, as for a line that changes a record."""
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
    os.utime(path, None)


def truncate(path: str) -> None:
    """Cut to its length, by path."""
    os.truncate(path, os.stat(path).st_size)


def rename(path: str) -> None:
    """Move it away and back."""
    os.rename(path, f"{path}.moved")
    os.rename(f"{path}.moved", path)


def replace(path: str) -> None:
    """Put a file of one's own in its place: shown by a new file in its folder."""
    descriptor, name = tempfile.mkstemp(dir=os.path.dirname(path))
    os.close(descriptor)
    os.unlink(name)


def mode(path: str) -> None:
    """Set its permission bits."""
    os.chmod(path, os.stat(path).st_mode & 0o7777)


def times(path: str) -> None:
    """Set its times, in which data can be carried."""
    found = os.stat(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def attribute(path: str) -> None:
    """Set an extended attribute, in which data can be carried."""
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


def tamper(way: str) -> Callable[[Told], Any]:
    """A route that does one thing to each target."""

    def route(told: Told) -> list[str]:
        done = []
        first: OSError | None = None
        for path in told["targets"]:
            try:
                WAYS[way](path)
                done.append(f"claim:{way}:{os.path.basename(path)}")
            except OSError as error:
                first = first or error
        if first is not None and not done:
            raise first
        return done

    return route


def destroy(told: Told) -> None:
    """Empty and delete the trusted process's file, and whatever else lies there."""
    folder = os.path.dirname(told["token_file"])
    with contextlib.suppress(OSError):
        os.truncate(told["token_file"], 0)
    with contextlib.suppress(OSError):
        os.unlink(told["token_file"])
    with contextlib.suppress(OSError):
        os.rename(folder, f"{folder}.gone")


def new_file(told: Told) -> None:
    """Leave a file in every folder that somebody may read later."""
    for place in told["places"]:
        with contextlib.suppress(OSError):
            os.makedirs(place, exist_ok=True)
        with contextlib.suppress(OSError):
            os.close(os.open(f"{place}/{told['marker']}.pth", os.O_WRONLY | os.O_CREAT))


def new_shared_memory(told: Told) -> None:
    """Leave a file in /dev/shm."""
    os.close(os.open(f"/dev/shm/{told['marker']}.pth", os.O_WRONLY | os.O_CREAT))


ROUTES: dict[str, Callable[[Told], Any]] = {
    **{f"tamper-{way}": tamper(way) for way in WAYS},
    "destroy": destroy,
    "leave-files": new_file,
    "leave-shared-memory": new_shared_memory,
}
