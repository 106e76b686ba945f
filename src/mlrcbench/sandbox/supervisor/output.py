"""A command's output in bounded memory: its head, its tail, and a capped log file."""

from __future__ import annotations

import contextlib
import os
from collections import deque

_CHUNK = 1 << 16


class OutputRing:
    """Keeps the first and the last bytes of a stream, and counts those between them."""

    def __init__(self, output_bytes: int, log_bytes: int, log: int | None) -> None:
        """Start with an empty stream.

        Args:
            output_bytes: Largest size of head and tail together.
            log_bytes: Largest size of the log.
            log: A descriptor to write the log to, which the caller closes; None for no log.
        """
        self._half = output_bytes // 2
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._log = log
        self._log_left = log_bytes if log is not None else 0
        self.total = 0

    def read(self, descriptor: int) -> bool:
        """Add what a non-blocking descriptor has to read; False if that is nothing now."""
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        self.write(chunk)
        return bool(chunk)

    def write(self, chunk: bytes) -> None:
        """Add bytes to the stream."""
        self.total += len(chunk)
        if self._log is not None and self._log_left > 0:
            with contextlib.suppress(OSError):
                os.write(self._log, chunk[: self._log_left])
            self._log_left -= len(chunk)
        room = self._half - len(self._head)
        if room > 0:
            self._head += chunk[:room]
            chunk = chunk[room:]
        if chunk:
            self._keep_tail(chunk[-self._half :] if self._half else b"")

    def result(self) -> tuple[bytes, bytes, int]:
        """The head, the tail, and the number of bytes between them that were left out."""
        tail = b"".join(self._tail)
        tail = tail[max(0, len(tail) - self._half) :]
        return bytes(self._head), tail, self.total - len(self._head) - len(tail)

    def _keep_tail(self, chunk: bytes) -> None:
        if not chunk:
            return
        self._tail.append(chunk)
        self._tail_bytes += len(chunk)
        while self._tail_bytes - len(self._tail[0]) >= self._half:
            self._tail_bytes -= len(self._tail.popleft())
