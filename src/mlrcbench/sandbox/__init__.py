"""Sandboxes: run one command in a workspace, under limits, with nothing else in reach.

A `Sandbox` belongs to one workspace and runs one shell command at a time, beside up to
`MAX_JOBS` jobs. Commands are stateless: each is a fresh shell, its state is files, and when
`run` returns no process of it is left. A command that fails, hangs, or eats its limits is a
*value* (`ExecResult`); a sandbox that fails is a `SandboxError`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from mlrcbench.errors import RegistryError, nearest

if TYPE_CHECKING:
    from mlrcbench.sandbox.job import Job, Until, Waited

Ending = Literal["exited", "timeout", "memory", "disk", "processes", "killed"]

MAX_JOBS = 4

KINDS = ("auto", "strong", "uid", "landlock", "bubblewrap", "container", "process")
_GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HIP_VISIBLE_DEVICES", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one command may use.

    Attributes:
        seconds: Wall time; then everything is killed.
        memory_bytes: Private memory of each process, and resident memory of all together.
        processes: Processes and threads.
        file_bytes: Size of one file.
        workspace_bytes: Blocks of the whole workspace; one that is too large already may shrink,
            not grow.
        output_bytes: Head and tail of the output that are kept in memory, together.
        log_bytes: Output that is kept in the log file.
        threads: Threads that numeric libraries are told to use.
    """

    seconds: float
    memory_bytes: int = 4 << 30
    processes: int = 256
    file_bytes: int = 1 << 30
    workspace_bytes: int = 2 << 30
    output_bytes: int = 16 << 10
    log_bytes: int = 16 << 20
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Policy:
    """What commands may reach, besides the system, the interpreter and its packages.

    Attributes:
        workspace: Read and write; the working directory of every command.
        readable: Read only, with everything below: public data, a split's inputs.
        network: Whether the network may be used.
        gpu: Whether GPU devices may be opened.
    """

    workspace: Path
    readable: tuple[Path, ...] = ()
    network: bool = False
    gpu: bool = False


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What one command did.

    Attributes:
        ending: "exited", the limit that ended it, or "killed" for a job that was told to end.
        exit_status: As a shell reports it (128 + n for signal n); None unless it exited.
        head: First bytes of standard output and error, interleaved as they came.
        tail: Last bytes; `head + tail` is the whole output if `omitted` is 0.
        omitted: Bytes between head and tail that were left out.
        wall_seconds: Time from start to end.
        cpu_seconds: User and system time of all its processes that were reaped.
        peak_memory_bytes: Largest resident set of one of them.
    """

    ending: Ending
    exit_status: int | None
    head: bytes
    tail: bytes = b""
    omitted: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Isolation:
    """What a sandbox enforces and, as plainly, what it does not.

    Attributes:
        tier: "none" for plain processes.
        enforced: Sentences, each one thing that agent code cannot do.
        missing: Sentences, each one thing that it can.
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

    def run(self, command: str, limits: Limits, *, log: Path | None = None) -> ExecResult:
        """Run one shell command to its end, or to its limit.

        Args:
            command: Handed to `bash -c`; standard input is empty.
            limits: What it may use.
            log: A new file that receives the output, up to `limits.log_bytes`; removed
                again if the output fits into `limits.output_bytes`.

        Returns:
            What happened. A failing command is a result, not an error.

        Raises:
            SandboxError: The command could not be started or not be ended.
        """
        ...

    @property
    def runs_jobs(self) -> bool:
        """Whether `start_job` and `search` work in this kind of sandbox."""
        ...

    def start_job(self, command: str, limits: Limits, *, log: Path) -> Job:
        """Start a command that goes on while others run.

        Args:
            command: See `run`.
            limits: What it may use, for itself alone; the workspace's size is that of all.
            log: A new file that receives the output, up to `limits.log_bytes`.

        Raises:
            SandboxError: It could not be started, or this kind of sandbox runs no jobs.
        """
        ...

    def search(self, log: Path, until: Until) -> Waited:
        """Search the whole output of a job that has ended; `met` is "match", "exit" or "error".

        Raises:
            SandboxError: The supervisor was lost.
        """
        ...

    def interrupt(self) -> None:
        """End whatever runs, from any thread: who waits for it gets a `SandboxError`, like later calls."""
        ...

    def start(self) -> None:
        """Do now what the first command would have to wait for.

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


def open_sandbox(kind: str, policy: Policy) -> Sandbox:
    """A sandbox of one kind for one workspace.

    "auto" is the strongest tier that proved itself on this machine. It never falls back to
    "process", which confines nothing and has to be asked for.

    Args:
        kind: One of `KINDS`.
        policy: What its commands may reach.

    Raises:
        RegistryError: There is no such kind.
        SandboxError: It cannot work on this machine; the text says what would help.
    """
    from mlrcbench.sandbox import probe

    if kind not in KINDS:
        raise RegistryError(f"there is no sandbox {kind!r}. {nearest(kind, KINDS)}")
    return probe.choose(kind, policy)


def isolation_report() -> dict[str, dict[str, Any]]:
    """For each kind of sandbox: whether it works here, why not, and what it enforces."""
    from mlrcbench.sandbox import probe

    return probe.report()


def environment(home: Path, threads: int, *, gpu: bool = False) -> dict[str, str]:
    """The environment variables of a command, rebuilt from nothing.

    No variable of the host process is passed on, so that no key or token of it ever is; with
    a GPU, those that say which one to use are. Hash seeds and thread counts are fixed, so
    that the same code gives the same digits.

    Args:
        home: A private folder that is emptied after the command.
        threads: See `Limits.threads`.
        gpu: See `Policy.gpu`.
    """
    interpreter = os.path.dirname(sys.executable)
    variables = {
        "PATH": f"{interpreter}:/usr/local/bin:/usr/bin:/bin",
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
    }
    for name in _GPU_VARIABLES if gpu else ():
        if name in os.environ:
            variables[name] = os.environ[name]
    return variables
