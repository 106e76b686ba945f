"""An agent that is a program in any language, which reads and writes lines of JSON.

For each step the program reads one line of standard input, `{"observation": {...}, "info": {...}}`,
and writes one line of standard output, an action in its JSON form. `observation["text"]` is the text
for an agent. The program is started at the first step and ended with the episode. It runs as the
host's user, outside of the sandbox: it is the agent, not the agent's code.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import numpy as np

from mlrcbench.errors import AgentError, RegistryError
from mlrcbench.protocol.actions import MAX_JSON_CHARS
from mlrcbench.sandbox.fork_client import helper_command

_END_SECONDS = 5.0


class ExternalAgent:
    """Lets a program choose the actions.

    Args:
        command: The program and its arguments; a string is split as a shell does, but not run by one.
        seconds: Longest time for one answer.
    """

    def __init__(self, command: str | Sequence[str], *, seconds: float = 600.0) -> None:
        self.command = shlex.split(command) if isinstance(command, str) else list(command)
        self.seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def check(self) -> None:
        """Check that there is such a program here.

        Raises:
            RegistryError: It does not exist, or may not be run.
        """
        if shutil.which(self.command[0]) is None:
            raise RegistryError(
                f"the program {self.command[0]!r} of an agent cannot be found here, or may not be run: "
                "give its path, install it, or set its mode with chmod +x"
            )

    def act(self, observation: dict[str, Any], info: dict[str, Any]) -> str:
        """Send the observation and wait for the program's line.

        Raises:
            AgentError: The program cannot be started, has ended, is too slow, or writes too long a line.
        """
        process = self._process or self._start()
        line = json.dumps({"observation": observation, "info": info}, default=_plain).encode() + b"\n"
        deadline = time.monotonic() + self.seconds
        self._send(process, line, deadline)
        return self._read_line(process, deadline).decode("utf-8", "replace")

    def close(self) -> None:
        """End the program and everything that it started in its session."""
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
        _kill(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            self.check()
        except RegistryError as error:
            raise AgentError(f"the agent {self.command} cannot be started: {error}") from None
        starting: Future[subprocess.Popen[bytes]] = Future()
        threading.Thread(target=self._start_and_stay, args=(starting,), daemon=True).start()
        try:
            self._process = starting.result()
        except OSError as error:
            raise AgentError(f"the agent {self.command} cannot be started: {error}") from None
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        return self._process

    def _start_and_stay(self, starting: Future[subprocess.Popen[bytes]]) -> None:
        """Start the program in a thread that lives as long: the kernel ends the program with its thread."""
        try:
            process = subprocess.Popen(
                helper_command("bound_program", str(os.getpid()), *self.command),
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        except BaseException as error:
            starting.set_exception(error)
            return
        starting.set_result(process)
        process.wait()

    def _send(self, process: subprocess.Popen[bytes], line: bytes, deadline: float) -> None:
        """Send all of a line to a program that may not read it."""
        assert process.stdin is not None
        unsent = memoryview(line)
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdin, selectors.EVENT_WRITE)
            while unsent:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise AgentError(f"the agent did not read its observation within {self.seconds:g} s")
                try:
                    unsent = unsent[os.write(process.stdin.fileno(), unsent) :]
                except BlockingIOError:
                    continue
                except OSError:
                    raise self._ended() from None

    def _read_line(self, process: subprocess.Popen[bytes], deadline: float) -> bytes:
        """The next line, within the time and the length that an action may have."""
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if len(self._rest) > MAX_JSON_CHARS:
                    raise AgentError(f"the agent's line is longer than {MAX_JSON_CHARS:,} bytes")
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise AgentError(f"the agent did not answer within {self.seconds:g} s")
                chunk = os.read(process.stdout.fileno(), 1 << 16)
                if not chunk:
                    raise self._ended()
                self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _ended(self) -> AgentError:
        assert self._process is not None
        try:
            status: int | None = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            status = None
        how = "closed its output" if status is None else f"ended with status {status}"
        return AgentError(f"the agent {self.command} {how} before the episode was over")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program and everything that it started in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as plain numbers and lists."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")
