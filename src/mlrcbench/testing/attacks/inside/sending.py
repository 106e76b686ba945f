"""Routes out of the sandbox: messages to servers of the host, signals to its processes."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
Facts = dict[str, Any]


def send(family: int, kind: int, address: Any, message: str) -> None:
    """Connect to a server and send a message."""
    with socket.socket(family, kind) as client:
        client.settimeout(2)
        client.connect(address)
        client.send(message.encode())
        client.recv(100)


def to_tcp(facts: Facts) -> None:
    """Send a message over TCP."""
    send(
        socket.AF_INET,
        socket.SOCK_STREAM,
        ("127.0.0.1", facts["victim"]["tcp"]),
        facts["messages"]["send-tcp"],
    )


def to_udp(facts: Facts) -> None:
    """Send a message as a UDP datagram."""
    send(
        socket.AF_INET,
        socket.SOCK_DGRAM,
        ("127.0.0.1", facts["victim"]["udp"]),
        facts["messages"]["send-udp"],
    )


def to_mapped(facts: Facts) -> None:
    """Send a message over an IPv6 socket to an IPv4 address."""
    address = ("::ffff:127.0.0.1", facts["victim"]["tcp"])
    send(socket.AF_INET6, socket.SOCK_STREAM, address, facts["messages"]["send-tcp6"])


def to_abstract(facts: Facts) -> None:
    """Send a message over an abstract unix socket."""
    name = "\0" + facts["victim"]["abstract"]
    send(socket.AF_UNIX, socket.SOCK_STREAM, name, facts["messages"]["send-abstract"])


def to_path(facts: Facts) -> None:
    """Send a message over a unix socket with a path."""
    send(socket.AF_UNIX, socket.SOCK_STREAM, facts["victim"]["path"], facts["messages"]["send-path"])


def to_path_by_pair(facts: Facts) -> None:
    """Send a datagram to a unix socket with a path, from a socket or from one half of a pair."""
    message, path = facts["messages"]["send-path-datagram"].encode(), facts["victim"]["datagrams"]
    try:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    except OSError:
        client, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    client.sendto(message, path)


def by_name(_facts: Facts) -> str:
    """Ask a name server for the address of a name."""
    socket.getaddrinfo("example.com", 443)
    return "claim:resolved"


def to_kernel(_facts: Facts) -> str:
    """Ask the kernel over netlink which network devices there are."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.bind((0, 0))
        link.send(bytes.fromhex("1400000012000103010000000000000000000000"))
        names = link.recv(65536)
    if b"eth" in names or b"ens" in names or b"wlan" in names:
        return "claim:host-network"
    raise OSError("only the sandbox's own loopback device is visible")


def to_host(_facts: Facts) -> str:
    """Connect to the host of the virtual machine."""
    with socket.socket(40, socket.SOCK_STREAM) as client:  # AF_VSOCK
        client.settimeout(1)
        try:
            client.connect((2, 1))
        except (ConnectionResetError, ConnectionRefusedError):
            return "claim:virtual-socket"
        except TimeoutError:
            return "claim:virtual-socket"
    return "claim:virtual-socket"


def kill(number: int) -> Callable[[Facts], None]:
    """Send a signal to the trusted process."""

    def route(facts: Facts) -> None:
        os.kill(facts["victim"]["pid"], number)

    return route


def by_group(facts: Facts) -> None:
    """Kill the trusted process's process group."""
    os.killpg(facts["victim"]["pid"], signal.SIGKILL)


def by_descriptor(facts: Facts) -> None:
    """Kill the trusted process through a process descriptor."""
    descriptor = libc.syscall(ctypes.c_long(434), ctypes.c_long(facts["victim"]["pid"]), ctypes.c_long(0))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "pidfd_open")
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)


def by_queue(facts: Facts) -> None:
    """Kill the trusted process by a signal to its main thread."""
    pid = ctypes.c_long(facts["victim"]["pid"])
    if libc.syscall(ctypes.c_long(200), pid, ctypes.c_long(9)) != 0:
        raise OSError(ctypes.get_errno(), "tkill")


def by_owner(facts: Facts) -> None:
    """Have the kernel signal the trusted process, by naming it as the owner of a descriptor."""
    import fcntl

    ours, theirs = socket.socketpair()
    fcntl.fcntl(ours, 10, signal.SIGKILL)  # F_SETSIG
    fcntl.fcntl(ours, fcntl.F_SETOWN, facts["victim"]["pid"])
    fcntl.fcntl(ours, fcntl.F_SETFL, fcntl.fcntl(ours, fcntl.F_GETFL) | 0o20000)
    theirs.send(b"x")


def to_library(facts: Facts) -> str:
    """Send the library and its helpers a signal that every process ignores."""
    for pid in facts["trusted_pids"]:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                same = file.read().rpartition(")")[2].split()[19] == facts["started"][str(pid)]
            os.kill(pid, signal.SIGURG)
        except OSError:
            continue
        if same:
            return "claim:signalled-the-library"
    raise OSError("no process could be signalled")


def to_all(_facts: Facts) -> None:
    """Kill every process that this one may signal."""
    os.kill(-1, signal.SIGKILL)


ROUTES: dict[str, Callable[[Facts], Any]] = {
    "send-tcp": to_tcp,
    "send-udp": to_udp,
    "send-tcp6": to_mapped,
    "send-abstract": to_abstract,
    "send-path": to_path,
    "send-path-datagram": to_path_by_pair,
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
