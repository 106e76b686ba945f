"""A trusted process of the library's user that holds a token in every place a process can.

Its arguments are the token, and its own folder with the file `token`. It prints one JSON line that
says where everything is, writes what its sockets receive into the file `heard`, and ends when its
standard input does.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import socket
import sys
import threading
import time
from typing import Any


def serve(server: socket.socket, token: bytes, heard: str) -> None:
    """Send the token to every client, and note what the client sends."""
    while True:
        try:
            client, _ = server.accept()
            with client:
                client.settimeout(1)
                client.sendall(token)
                note(client.recv(1000), heard)
        except OSError:
            continue


def answer(server: socket.socket, token: bytes, heard: str) -> None:
    """Answer datagrams with the token, and note what they say."""
    while True:
        data, sender = server.recvfrom(1000)
        note(data, heard)
        if sender:  # a unix socket need not have an address
            server.sendto(token, sender)


def note(data: bytes, heard: str) -> None:
    """Append a message to the file of messages."""
    with open(heard, "ab") as file:
        file.write(data + b"\n")


def sockets(token: bytes, folder: str, heard: str) -> dict[str, Any]:
    """Start a server of each kind; returns their addresses."""
    tcp, udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    abstract, path = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    name, socket_path = f"attack-{secrets.token_hex(12)}", f"{folder}/socket"
    tcp.bind(("127.0.0.1", 0))
    udp.bind(("127.0.0.1", 0))
    abstract.bind("\0" + name)
    path.bind(socket_path)
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.bind(f"{folder}/datagrams")
    for server in (tcp, abstract, path):
        server.listen()
        threading.Thread(target=serve, args=(server, token, heard), daemon=True).start()
    for server in (udp, datagrams):
        threading.Thread(target=answer, args=(server, token, heard), daemon=True).start()
    places = {"abstract": name, "path": socket_path, "datagrams": f"{folder}/datagrams"}
    return {"tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1], **places}


def sysv(token: bytes) -> int:
    """The id of new System V shared memory that holds the token."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    memory: int = libc.shmget(0, 4096, 0o1600)
    ctypes.memmove(libc.shmat(memory, None, 0), token, len(token))
    return memory


def main(token: bytes, folder: str) -> None:
    """Hold the token in every place until standard input ends."""
    os.chdir(folder)
    memory = ctypes.create_string_buffer(token)
    descriptor = os.open("token", os.O_RDONLY)
    posix = f"attack-{secrets.token_hex(12)}"
    with os.fdopen(os.open(f"/dev/shm/{posix}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(token)
    shared = sysv(token)
    places = {
        "pid": os.getpid(),
        "fd": descriptor,
        "address": ctypes.addressof(memory),
        "sysv": shared,
        "posix": posix,
        **sockets(token, folder, f"{folder}/heard"),
    }
    print(json.dumps(places), flush=True)
    threading.Thread(target=look, args=(f"{folder}/token",), daemon=True).start()
    sys.stdin.buffer.read()
    os.unlink(f"/dev/shm/{posix}")
    ctypes.CDLL(None).shmctl(shared, 0, None)


def look(path: str) -> None:
    """Open a file again and again, as a program that uses it would."""
    while True:
        time.sleep(0.1)
        try:
            with open(path, "rb") as file:
                file.read()
        except OSError:
            continue


if __name__ == "__main__":
    main(sys.argv[1].encode(), sys.argv[2])
