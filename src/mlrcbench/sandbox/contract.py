"""The contract of a sandbox: what it can be asked to do, and what it returns.

A `Sandbox` belongs to one workspace and runs one shell command at a time, next to at most `MAX_JOBS`
jobs. Commands are stateless: each is a fresh shell, only files stay, and when `run` returns, no
process of the command is left. A command that fails, hangs, or reaches a limit is a *value*
(`ExecResult`); a sandbox that fails raises a `SandboxError`.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

Ending = Literal["exited", "timeout", "cpu", "memory", "disk", "processes", "killed"]
Met = Literal["exit", "match", "quiet", "time", "error"]

MAX_JOBS = 4
_GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HIP_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
# Git refuses to work if it cannot read the system's configuration, and commits need an identity.
_GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "agent",
    "GIT_AUTHOR_EMAIL": "agent@localhost",
    "GIT_COMMITTER_NAME": "agent",
    "GIT_COMMITTER_EMAIL": "agent@localhost",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one command.

    Attributes:
        seconds: Wall time, after which everything is killed.
        cpu_seconds: User and system time of all processes together, after which everything is killed. A
            container does not count it.
        memory_bytes: Private memory of each process, and resident memory of all of them together.
        processes: Number of processes and threads.
        file_bytes: Size of a file.
        workspace_bytes: Size of the whole workspace in blocks; one that is too large already may
            shrink, not grow.
        output_bytes: Size of the output's head and tail, which are kept in memory, together.
        log_bytes: Size of the log file.
        threads: Number of threads that numeric libraries are set to use.
    """

    seconds: float
    cpu_seconds: float = math.inf
    memory_bytes: int = 4 << 30
    processes: int = 256
    file_bytes: int = 1 << 30
    workspace_bytes: int = 2 << 30
    output_bytes: int = 16 << 10
    log_bytes: int = 16 << 20
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Policy:
    """The resources that commands may use, besides the system, the interpreter and its packages.

    Attributes:
        workspace: The working directory of every command, which may read and write it.
        readable: Paths that may be read, with everything below: public data, a split's inputs.
        network: Whether the network may be used.
        gpu: Whether GPU devices may be opened.
        hidden: Folders of the host program that commands must not be able to read, such as records. This
            library's home and temporary folder always count as such.
    """

    workspace: Path
    readable: tuple[Path, ...] = ()
    network: bool = False
    gpu: bool = False
    hidden: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecResult:
    """The result of one command.

    Attributes:
        ending: "exited", the limit that ended the command, or "killed" for a job that was killed on request,
            and for a command that did not end when its channel was closed.
        exit_status: The status as a shell reports it (128 + n for signal n); None unless it exited.
        head: First bytes of standard output and error, interleaved as they came.
        tail: Last bytes; `head + tail` is the whole output if `omitted` is 0.
        omitted: Number of bytes between head and tail that were left out.
        wall_seconds: Time from start to end.
        cpu_seconds: User and system time of all processes of the command that were reaped.
        peak_memory_bytes: Largest resident set of one of these processes.
        could_grow: Whether files could grow; False if the workspace was over its limit at the start.
    """

    ending: Ending
    exit_status: int | None
    head: bytes
    tail: bytes = b""
    omitted: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    could_grow: bool = True


@dataclass(frozen=True, slots=True)
class Isolation:
    """What a sandbox enforces, and what it does not.

    Attributes:
        tier: Name of the tier; "none" for plain processes.
        enforced: Sentences, each on one thing that agent code cannot do.
        missing: Sentences, each on one thing that agent code can do.
    """

    tier: str
    enforced: tuple[str, ...] = field(default=())
    missing: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, object]:
        """A dict of JSON types."""
        return {"tier": self.tier, "enforced": list(self.enforced), "missing": list(self.missing)}


class Sandbox(Protocol):
    """Runs commands in one workspace.

    Implementations are context managers; `close` is idempotent and leaves no process.
    """

    @property
    def isolation(self) -> Isolation:
        """What this sandbox enforces."""
        ...

    def run(
        self,
        command: str,
        limits: Limits,
        *,
        log: Path | None = None,
        channel: tuple[int, int] | None = None,
    ) -> ExecResult:
        """Run one shell command to its end, or to its limit.

        Args:
            command: The command for `bash -c`; its standard input is empty.
            limits: The limits of the command.
            log: A new file for the output, up to `limits.log_bytes`; it is removed again if the
                output fits into `limits.output_bytes`.
            channel: Ends of two pipes, which the command finds as its descriptors 3, to read from, and 4,
                to write to; they are closed here. When the other end of the first pipe is closed, the
                command has a second to end, and its ending is then "killed".

        Returns:
            The result, also for a command that fails.

        Raises:
            SandboxError: The command could not be started, or could not be ended.
        """
        ...

    @property
    def runs_jobs(self) -> bool:
        """Whether `start_job` and `search` work in this kind of sandbox."""
        ...

    def start_job(self, command: str, limits: Limits, *, log: Path) -> Job:
        """Start a command that continues while others run.

        Args:
            command: See `run`.
            limits: The limits of this job alone, except that all commands share the workspace's size.
            log: A new file for the output, up to `limits.log_bytes`.

        Raises:
            SandboxError: The job could not be started, or this kind of sandbox runs no jobs.
        """
        ...

    def search(self, log: Path, until: Until) -> Waited:
        """Search the whole output of a job that has ended; `met` is "match", "exit" or "error".

        Raises:
            SandboxError: The supervisor was lost.
        """
        ...

    def interrupt(self) -> None:
        """End everything that runs, from any thread; waiting and later calls raise a `SandboxError`."""
        ...

    def start(self) -> None:
        """Set the sandbox up now, so that the first command need not wait for it.

        Raises:
            SandboxError: The sandbox cannot be set up.
        """
        ...

    def close(self) -> None:
        """End every process, jobs included, and free every resource."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def interpreter() -> str:
    """The path by which commands call this interpreter.

    It has no `..`, because the folders before a `..` may not exist in a private tree.
    """
    return os.path.abspath(sys.executable)


def environment(home: Path, threads: int, *, gpu: bool = False) -> dict[str, str]:
    """The environment variables of a command, rebuilt from nothing.

    No variable of the host process is passed on, so that none of its keys or tokens is; with a
    GPU, only the variables that say which one to use are. Hash seeds and thread counts are fixed,
    so that the same code gives the same digits.

    Args:
        home: The private folder that is emptied after each command.
        threads: See `Limits.threads`.
        gpu: See `Policy.gpu`.
    """
    variables = {
        "PATH": f"{os.path.dirname(interpreter())}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "TMPDIR": str(home),
        "USER": "agent",
        "LOGNAME": "agent",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        **_GIT,
    }
    for name in _GPU_VARIABLES if gpu else ():
        if name in os.environ:
            variables[name] = os.environ[name]
    return variables


@dataclass(frozen=True, slots=True)
class Until:
    """What to wait for, besides the job's end.

    Attributes:
        kind: "exit" (only the job's end), "match" or "quiet".
        pattern: For "match": a regular expression, searched in each complete line of the log.
        start: For "match": the byte of the log at which the search starts.
        quiet: For "quiet": seconds without output, counted from the last output.
    """

    kind: Literal["exit", "match", "quiet"] = "exit"
    pattern: str = ""
    start: int = 0
    quiet: float = 0.0


@dataclass(frozen=True, slots=True)
class Waited:
    """How a wait ended.

    Attributes:
        met: What happened: the job's end, a match, silence, or the end of the time; "error" for a
            pattern that cannot be used.
        end: For "match": the byte of the log after the matching line.
        why: For "error": a sentence on why the pattern cannot be used.
        result: For "exit": the result of the job; its ending is "killed" after `Job.kill`.
    """

    met: Met
    end: int = 0
    why: str = ""
    result: ExecResult | None = None


class Job(Protocol):
    """A job that was started, for use by one thread."""

    def wait(self, until: Until, seconds: float) -> Waited:
        """Wait for something, at most some seconds.

        Raises:
            SandboxError: The supervisor was lost.
        """
        ...

    def kill(self) -> ExecResult:
        """End the job and all its processes; returns its result.

        Raises:
            SandboxError: The supervisor was lost.
        """
        ...

    def close(self) -> None:
        """End the job if it still runs, and free its resources. Idempotent."""
        ...
