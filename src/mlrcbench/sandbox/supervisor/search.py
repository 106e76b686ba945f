"""A search for a pattern in a job's output, made by a confined child with little time.

The pattern is the agent's, and the engine behind it can take exponential time or much memory
for some; so the search runs in a process of its own, confined like a command, which the kernel
ends after a second of CPU. It looks at one line at a time, at the first characters of long
ones, and at complete lines only, so that what it finds does not depend on how the output came
in pieces. Carriage returns end lines too, as progress bars use them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import select
import signal

from .child import Confinement, limit, prefer_for_killing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LINE_BYTES = 2_000
_CPU_SECONDS = 1
WALL_SECONDS = 20.0
_MEMORY_BYTES = 512 << 20
_CHUNK = 1 << 20
_LOG, _ANSWER = 3, 4
_TOO_DEAR = (
    f"the pattern took more than {_CPU_SECONDS} s, or too much memory, on this output; use a simpler one, "
    "without repeats inside repeats"
)


class Search:
    """One search, which is going on.

    Attributes:
        output: Becomes readable when there is a result.
    """

    def __init__(self, confinement: Confinement, log: int, pattern: str, start: int, *, final: bool) -> None:
        """Fork the child.

        Args:
            confinement: What it does to itself.
            log: A readable descriptor of the output.
            pattern: A regular expression.
            start: Bytes that were searched before.
            final: Nothing will follow, so that the last line counts without its end.

        Raises:
            OSError: There are no more processes or descriptors.
        """
        self.output, write_end = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                _main(confinement, log, write_end, (pattern, start, final))
            finally:
                os._exit(0)
        os.close(write_end)
        self._process = os.pidfd_open(self._pid)

    def result(self, seconds: float) -> dict[str, Any]:
        """Wait so long for the result.

        Returns:
            `end`, the byte after the first line that matches, or None; `searched`, up to where
            a later search need not look again; or `why` there is no result, a sentence.
        """
        text, ready = b"", select.poll()  # (select.select takes no descriptor above 1,023)
        ready.register(self.output, select.POLLIN)
        with contextlib.suppress(OSError):
            while ready.poll(1000 * seconds):
                piece = os.read(self.output, 1 << 12)
                text += piece
                if not piece or len(text) > 1 << 12:
                    break
        try:
            found = json.loads(text)
            return found if "why" in found else {"end": found["end"], "searched": int(found["searched"])}
        except (ValueError, KeyError, TypeError):
            return {"why": _TOO_DEAR}

    def close(self) -> None:
        """End it, if it goes on, and reap it."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # the tree's owner was quicker
            os.waitid(os.P_PIDFD, self._process, os.WEXITED)
        os.close(self._process)
        os.close(self.output)


def _main(confinement: Confinement, log: int, answer: int, what: tuple[str, int, bool]) -> None:
    """Everything that the child does."""
    prefer_for_killing(confinement.proc)
    confinement.apply()
    for which, value in (
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_DATA, _MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        limit(which, value)
    log, answer = os.dup(log), os.dup(answer)  # away from the places they are moved to
    os.dup2(log, _LOG)
    os.dup2(answer, _ANSWER)
    os.closerange(_ANSWER + 1, 1 << 20)
    pattern, start, final = what
    try:
        found = _search(re.compile(pattern), start, final)
    except (re.error, OverflowError) as error:
        found = {"why": f"the pattern is no regular expression: {str(error)[:200]}"}
    except RecursionError:
        found = {"why": "the pattern is nested too deeply"}
    except MemoryError:
        found = {"why": _TOO_DEAR}
    os.write(_ANSWER, json.dumps(found).encode())


def _search(pattern: re.Pattern[str], start: int, final: bool) -> dict[str, Any]:
    """The first line at or after `start` that matches."""
    position, pending = start, b""
    while chunk := os.pread(_LOG, _CHUNK, position + len(pending)):
        lines = (pending + chunk).replace(b"\r", b"\n").split(b"\n")
        pending = lines.pop()
        for line in lines:
            position += len(line) + 1
            if pattern.search(line[:LINE_BYTES].decode("utf-8", errors="replace")):
                return {"end": position, "searched": position}
    if final and pending and pattern.search(pending[:LINE_BYTES].decode("utf-8", errors="replace")):
        return {"end": position + len(pending), "searched": position}
    return {"end": None, "searched": position}
