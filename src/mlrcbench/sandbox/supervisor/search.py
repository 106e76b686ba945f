"""A search for a pattern in a job's output, made by a confined process with little time.

The pattern comes from the agent, and the engine that searches takes exponential time or much
memory for some patterns. So the search runs in its own process, confined like a command, which
the kernel ends after a second of CPU time. It looks at one complete line at a time, and only at
the first characters of a long one, so that the result does not depend on the pieces in which the
output came. Carriage returns end lines too, because progress bars use them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import select
import signal

from .launcher import Confinement, limit, prefer_for_killing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LINE_BYTES = 2_000
_CPU_SECONDS = 1
WALL_SECONDS = 20.0
_MEMORY_BYTES = 512 << 20
_CHUNK = 1 << 20
_LOG, _ANSWER = 3, 4
_TOO_SLOW = (
    f"the pattern took more than {_CPU_SECONDS} s, or too much memory, on this output; use a simpler one, "
    "without repeats inside repeats"
)


class Search:
    """One search that is running.

    Attributes:
        output: A descriptor that becomes readable when the search has a result.
    """

    def __init__(self, confinement: Confinement, log: int, pattern: str, start: int, *, final: bool) -> None:
        """Fork the process that searches.

        Args:
            confinement: How that process confines itself.
            log: A readable descriptor of the output.
            pattern: A regular expression.
            start: The byte at which the search starts.
            final: Whether the output is complete, so that its last line needs no line end.

        Raises:
            OSError: The system has no more processes or descriptors.
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
        """Wait for the result, at most some seconds.

        Returns:
            `end`, the byte after the first line that matches, or None, and `searched`, the byte
            at which a later search can start; or `why`, a sentence on why the search failed.
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
            answer = json.loads(text)
            return answer if "why" in answer else {"end": answer["end"], "searched": int(answer["searched"])}
        except (ValueError, KeyError, TypeError):
            return {"why": _TOO_SLOW}

    def close(self) -> None:
        """End the search if it is still running, and reap its process."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # the supervisor has reaped it already
            os.waitid(os.P_PIDFD, self._process, os.WEXITED)
        os.close(self._process)
        os.close(self.output)


def _main(confinement: Confinement, log: int, output: int, search: tuple[str, int, bool]) -> None:
    """Everything that the forked process does."""
    prefer_for_killing(confinement.proc)
    confinement.apply()
    for which, value in (
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_DATA, _MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        limit(which, value)
    log, output = os.dup(log), os.dup(output)  # so that neither has the number that the other gets
    os.dup2(log, _LOG)
    os.dup2(output, _ANSWER)
    os.closerange(_ANSWER + 1, 1 << 20)
    pattern, start, final = search
    try:
        answer = _search(re.compile(pattern), start, final)
    except (re.error, OverflowError) as error:
        answer = {"why": f"the pattern is no regular expression: {str(error)[:200]}"}  # prose: ok
    except RecursionError:
        answer = {"why": "the pattern is nested too deeply"}
    except MemoryError:
        answer = {"why": _TOO_SLOW}
    os.write(_ANSWER, json.dumps(answer).encode())


def _search(pattern: re.Pattern[str], start: int, final: bool) -> dict[str, Any]:
    """Where the first matching line at or after `start` ends, and up to where was searched."""
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
