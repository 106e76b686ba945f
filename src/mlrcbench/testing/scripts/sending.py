"""Routes out: messages to servers of the host, signals to its processes."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
Told = dict[str, Any]


def send(family: int, kind: int, address: Any, message: str) -> None:
    """Connect and say something."""
    with socket.socket(family, kind) as client:
        client.settimeout(2)
        client.connect(address)
        client.send(message.encode())
        client.recv(100)


def to_tcp(told: Told) -> None:
    """Over TCP."""
    send(
        socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", told["victim"]["tcp"]), told["messages"]["send-tcp"]
    )


def to_udp(told: Told) -> None:
    """By a datagram."""
    send(
        socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", told["victim"]["udp"]), told["messages"]["send-udp"]
    )


def to_mapped(told: Told) -> None:
    """Over TCP of version 6, to an address of version 4."""
    address = ("::ffff:127.0.0.1", told["victim"]["tcp"])
    send(socket.AF_INET6, socket.SOCK_STREAM, address, told["messages"]["send-tcp6"])


def to_abstract(told: Told) -> None:
    """Over an abstract unix socket."""
    name = "\0" + told["victim"]["abstract"]
    send(socket.AF_UNIX, socket.SOCK_STREAM, name, told["messages"]["send-abstract"])


def to_path(told: Told) -> None:
    """Over a unix socket with a path."""
    send(socket.AF_UNIX, socket.SOCK_STREAM, told["victim"]["path"], told["messages"]["send-path"])


def by_name(_told: Told) -> str:
    """Ask for the address of a name."""
    socket.getaddrinfo("example.com", 443)
    return "claim:resolved"


def to_kernel(_told: Told) -> str:
    """Change the routes: a link to the kernel's network settings, with the right to set them up."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.bind((0, 0))
        link.send(bytes.fromhex("1400000012000103010000000000000000000000"))
        names = link.recv(65536)
    if b"eth" in names or b"ens" in names or b"wlan" in names:
        return "claim:host-network"
    raise OSError("only a loopback of its own")


def to_host(_told: Told) -> str:
    """Connect to the host under its virtual machine, or to other machines."""
    with socket.socket(40, socket.SOCK_STREAM) as client:  # AF_VSOCK
        client.settimeout(1)
        try:
            client.connect((2, 1))
        except (ConnectionResetError, ConnectionRefusedError):
            return "claim:virtual-socket"
        except TimeoutError:
            return "claim:virtual-socket"
    return "claim:virtual-socket"


def kill(number: int) -> Callable[[Told], None]:
    """Send a signal to the trusted process."""

    def route(told: Told) -> None:
        os.kill(told["victim"]["pid"], number)

    return route


def by_group(told: Told) -> None:
    """Kill the trusted process's whole group."""
    os.killpg(told["victim"]["pid"], signal.SIGKILL)


def by_descriptor(told: Told) -> None:
    """Kill it by a process descriptor."""
    descriptor = libc.syscall(ctypes.c_long(434), ctypes.c_long(told["victim"]["pid"]), ctypes.c_long(0))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "pidfd_open")
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)


def by_queue(told: Told) -> None:
    """Kill it by a queued signal to its main thread."""
    pid = ctypes.c_long(told["victim"]["pid"])
    if libc.syscall(ctypes.c_long(200), pid, ctypes.c_long(9)) != 0:
        raise OSError(ctypes.get_errno(), "tkill")


def by_owner(told: Told) -> None:
    """Have the kernel signal it: name it as the owner of a descriptor."""
    import fcntl

    ours, theirs = socket.socketpair()
    fcntl.fcntl(ours, 10, signal.SIGKILL)  # F_SETSIG
    fcntl.fcntl(ours, fcntl.F_SETOWN, told["victim"]["pid"])
    fcntl.fcntl(ours, fcntl.F_SETFL, fcntl.fcntl(ours, fcntl.F_GETFL) | 0o20000)
    theirs.send(b"x")


def to_library(told: Told) -> str:
    """Send the library and its helpers a signal that everybody ignores."""
    for pid in told["trusted_pids"]:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                same = file.read().rpartition(")")[2].split()[19] == told["started"][str(pid)]
            os.kill(pid, signal.SIGURG)
        except OSError:
            continue
        if same:
            return "claim:signalled-the-library"
    raise OSError("none could be signalled")


def to_all(_told: Told) -> None:
    """Kill everything there is."""
    os.kill(-1, signal.SIGKILL)


ROUTES: dict[str, Callable[[Told], Any]] = {
    "send-tcp": to_tcp,
    "send-udp": to_udp,
    "send-tcp6": to_mapped,
    "send-abstract": to_abstract,
    "send-path": to_path,
    "resolve-a-name": by_name,
    "netlink": to_kernel,
    "virtual-socket": to_host,
    "kill": kill(signal.SIGKILL),
    "terminate": kill(signal.SIGTERM),
    "stop": kill(signal.SIGSTOP),
    "kill-group": by_group,
    "kill-by-descriptor": by_descriptor,
    "kill-thread": by_queue,
    "kill-by-owner": by_owner,
    "signal-library": to_library,
    "kill-all": to_all,
}
