"""Messages between the host process, the fork server, and the supervisors.

A message is a JSON object, raw bytes next to it, and file descriptors where needed. The host
parses what a supervisor sends, and that contains bytes which agent code chose; so these travel
next to the JSON, never in an encoding that could build objects.
"""

from __future__ import annotations

import json
import os
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_HEADER = struct.Struct("<II")
_MAX_DESCRIPTORS = 4
_FIRST = 1 << 16


class Message:
    """One message between two processes.

    Attributes:
        fields: A JSON object.
        blob: Raw bytes.
        descriptors: Open files that the receiver now owns.
    """

    def __init__(self, fields: dict[str, Any], blob: bytes, descriptors: list[int]) -> None:
        self.fields = fields
        self.blob = blob
        self.descriptors = descriptors


def send(
    channel: socket.socket, fields: dict[str, Any], blob: bytes = b"", descriptors: tuple[int, ...] = ()
) -> None:
    """Send one message.

    Raises:
        OSError: The receiver is gone.
    """
    text = json.dumps(fields).encode()
    data = memoryview(_HEADER.pack(len(text), len(blob)) + text + blob)
    if descriptors:
        sent = socket.send_fds(channel, [data], list(descriptors))
        data = data[sent:]
    channel.sendall(data)


def receive(channel: socket.socket) -> Message | None:
    """The next message, or None when the sender is gone.

    Each side waits for an answer before it writes again (or sends descriptors too, at which the
    kernel stops reading), so one read never returns a part of the next message.

    Raises:
        OSError: The channel broke, or its timeout passed.
    """
    data, descriptors, _, _ = socket.recv_fds(channel, _FIRST, _MAX_DESCRIPTORS)
    try:
        if not data:
            return None
        data += _exactly(channel, _HEADER.size - len(data))
        size, rest = _HEADER.unpack_from(data)
        end = _HEADER.size + size
        data += _exactly(channel, end + rest - len(data))
        return Message(json.loads(data[_HEADER.size : end]), data[end:], list(descriptors))
    except EOFError:
        close_all(descriptors)
        return None
    except BaseException:
        close_all(descriptors)
        raise


def close_all(descriptors: list[int]) -> None:
    """Close descriptors that were received and are not needed any more."""
    while descriptors:
        os.close(descriptors.pop())


def _exactly(channel: socket.socket, count: int) -> bytes:
    parts = []
    while count > 0:
        part = channel.recv(min(count, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
