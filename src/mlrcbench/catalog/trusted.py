"""A trusted child process: where a competition's `build`, `convert`, `play` and `score` run.

They run in another process than the library so that the library stays light (no torch), so that a
crash or a leak costs one call, and so that nothing but their files can influence the result: no
workspace on the import path, a clean environment, one thread, a fixed hash seed. Agent code is never
imported here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlrcbench.errors import DataError, SubmissionError, TooSlowError
from mlrcbench.sandbox import environment
from mlrcbench.sandbox.fork_client import with_prelude
from mlrcbench.storage.temporary import scratch

_BOOT = """
import sys
sys.path.append({root!r})
from mlrcbench.catalog.trusted_child import main
main({descriptor})
"""
_POLL_SECONDS = 0.2


class ChildError(Exception):
    """The child ended without an answer; the text holds the end of its output."""


def call(
    function: str,
    module: Path,
    arguments: Mapping[str, Any],
    *,
    seconds: float,
    threads: int = 1,
    gpu: bool = False,
    on_output: Callable[[str], None] | None = None,
    channel: tuple[int, int] | None = None,
) -> Any:
    """Call a function of a competition's module in a fresh process.

    Args:
        function: "build", "convert", "play" or "score".
        module: The file that defines the function.
        arguments: Arguments of JSON types.
        seconds: Wall time after which the process is killed.
        threads: Number of threads for numeric libraries.
        gpu: Whether to pass on which GPU the host process is to use.
        on_output: Called with the last line of the output, several times a second.
        channel: For "play", the ends of the pipes to and from the agent; they are closed here.

    Returns:
        What the function returned, as JSON types; for "play", the seconds that the agent took.

    Raises:
        SubmissionError: `score` refused the artefacts, or the agent broke the rules of the game.
        DataError: `convert` cannot use the raw data.
        ChildError: The process crashed, was killed, or ran out of time.
    """
    read_end, write_end = os.pipe()
    theirs = (write_end, *(channel or ()))
    closing = contextlib.ExitStack()
    for descriptor in theirs:
        closing.callback(os.close, descriptor)
    with os.fdopen(read_end, "rb") as answers, closing, tempfile.TemporaryFile() as output:
        root = str(Path(__file__).parents[2])
        code = with_prelude(_BOOT.format(root=root, descriptor=write_end))
        request = json.dumps(
            {
                "function": function,
                "module": str(module),
                "arguments": dict(arguments),
                "parent": os.getpid(),
                "channel": channel,
            }
        )
        with scratch("child") as home:
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", code],
                cwd="/",
                env=environment(home, threads, gpu=gpu),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=theirs,
                start_new_session=True,
            )
            closing.close()  # the agent's side must notice when the child has closed its own
            timed_out = _wait(process, request, seconds, output.fileno(), on_output)
        answer = answers.read()
        if answer:
            return _unpack(json.loads(answer))
        ending = f"ran longer than {seconds:g} s" if timed_out else f"ended with status {process.returncode}"
        raise ChildError(f"{function} {ending}\n{_tail(output.fileno())}".rstrip())


def _wait(
    process: subprocess.Popen[bytes],
    request: str,
    seconds: float,
    output: int,
    on_output: Callable[[str], None] | None,
) -> bool:
    """Wait for the child; returns True if it ran out of time and was killed."""
    deadline = time.monotonic() + seconds
    try:
        assert process.stdin is not None
        try:
            process.stdin.write(request.encode())
            process.stdin.close()
        except BrokenPipeError:
            pass
        while (remaining := deadline - time.monotonic()) > 0:
            try:
                process.wait(remaining if on_output is None else min(remaining, _POLL_SECONDS))
                return False
            except subprocess.TimeoutExpired:
                if on_output is not None:
                    on_output(_tail(output, 200).rstrip().rpartition("\n")[2])
        return True
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _tail(descriptor: int, size: int = 4_000) -> str:
    end = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, max(0, end - size)).decode("utf-8", errors="replace")


def _unpack(answer: Mapping[str, Any]) -> Any:
    if "late" in answer:
        raise TooSlowError(answer["late"])
    if "refused" in answer:
        raise SubmissionError(answer["refused"])
    if "unusable" in answer:
        raise DataError(answer["unusable"])
    return answer["value"]
