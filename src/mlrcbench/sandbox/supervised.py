"""The confined backend, in three tiers: strong, uid and landlock.

All three use Landlock, seccomp, resource limits and dropped capabilities, which each command
applies to itself. They differ in what surrounds it:

* `strong`: namespaces, and a private file tree that contains only what is allowed. If the host
  process is root, commands run as another user.
* `uid`: for root, where namespaces are refused: commands run as another user, without a private tree.
* `landlock`: commands run as the same user, without namespaces.

None of them protects against bugs of the kernel, or against what can be learned from timing, load
and shared caches. `isolation.py` lists what a tier leaves open, and every sandbox has that list as
its `isolation`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlrcbench.errors import SandboxError
from mlrcbench.sandbox import fork_client, readable
from mlrcbench.sandbox.contract import ExecResult, Isolation, Limits, Policy, Until, Waited, environment
from mlrcbench.sandbox.isolation import describe
from mlrcbench.sandbox.ownership import Owner
from mlrcbench.sandbox.supervised_job import SupervisedJob, close_channel, hang_up, read_result, remove_home
from mlrcbench.sandbox.supervisor import messages

_GRACE_SECONDS = 60.0
_LOG_MODE = 0o644  # the sandbox's user reads logs, whatever the umask is
_LIBRARY = readable.library_paths()


class SupervisedSandbox:
    """A sandbox whose commands are run by a supervisor process, which starts with the first command.

    One command runs at a time; calls from several threads wait for each other. After a
    `SandboxError` the next `run` starts a fresh supervisor. Each job has a separate supervisor,
    whose commands run as the same user.
    """

    runs_jobs = True

    def __init__(self, tier: str, policy: Policy) -> None:
        """Check the policy; nothing is started yet.

        Args:
            tier: "strong", "uid", "landlock", or "process" for no confinement.
            policy: The resources that commands may use.

        Raises:
            SandboxError: A path of the policy does not exist or cannot be confined.
        """
        self._tier = tier
        self._policy = policy
        self._workspace = _real(policy.workspace)
        self._readable = [_real(path) for path in policy.readable]
        self._check()
        self._home = "/tmp" if tier == "strong" else ""
        self._channel: socket.socket | None = None
        self._uid: int | None = None
        self._jobs: list[SupervisedJob] = []
        self._lock = threading.Lock()
        self._owner = Owner()
        self._closed = False

    @property
    def isolation(self) -> Isolation:
        """What this tier enforces on this machine."""
        return describe(self._tier, self._policy)

    def start(self) -> None:
        """Start the supervisor now, rather than with the first command.

        Raises:
            SandboxError: The sandbox cannot be set up as the policy asks; the text says why.
        """
        with self._lock:
            if not self._closed:
                self._connected()

    def run(
        self,
        command: str,
        limits: Limits,
        *,
        log: Path | None = None,
        channel: tuple[int, int] | None = None,
    ) -> ExecResult:
        """See `Sandbox.run`."""
        ends = list(channel or ())
        try:
            with self._usable():
                return self._run(command, limits, log, ends)
        finally:
            messages.close_all(ends)

    def start_job(self, command: str, limits: Limits, *, log: Path) -> SupervisedJob:
        """See `Sandbox.start_job`."""
        with self._usable():
            self._call({"shared": True})
            private = self._tier == "strong"  # every supervisor has a private /tmp
            home = self._home if private else _new_home()
            channel, _ = fork_client.connect({**self._setup(), "uid": self._uid, "home": home})
            try:
                channel.settimeout(_GRACE_SECONDS)
                request = {**self._request(command, limits, home), "shared": True, "job": True}
                with log.open("x+b", buffering=0) as file, log.open("rb") as reader:
                    os.fchmod(file.fileno(), _LOG_MODE)
                    messages.send(channel, request, descriptors=(file.fileno(), reader.fileno()))
                    message = messages.receive(channel)
                if message is None:
                    raise SandboxError("the job's supervisor ended before the job began")
                if "started" not in message.fields:
                    raise SandboxError(f"the job could not be started: {message.fields.get('error')}")
            except BaseException:
                channel.close()
                raise
            self._jobs = [job for job in self._jobs if job.result is None]
            self._jobs.append(SupervisedJob(channel, "" if private else home))
            self._check_open()
            return self._jobs[-1]

    def search(self, log: Path, until: Until) -> Waited:
        """See `Sandbox.search`."""
        with self._usable(), log.open("rb") as file:
            request = {"search": until.pattern, "start": until.start, "shared": self._shares}
            answer = self._call(request, (file.fileno(),)).fields
        if "error" in answer:
            raise SandboxError(f"the output could not be searched: {answer['error']}")
        if "why" in answer:
            return Waited("error", why=answer["why"])
        return Waited("exit") if answer["end"] is None else Waited("match", end=answer["end"])

    def interrupt(self) -> None:
        """See `Sandbox.interrupt`."""
        self._closed = True
        for job in list(self._jobs):
            job.interrupt()
        channel = self._channel
        if channel is not None:
            hang_up(channel)

    def close(self) -> None:
        """End every process. Idempotent."""
        if not self._owner.is_here:
            return
        with self._lock:
            self._closed = True
            self._end_jobs()
            if self._channel is not None:
                close_channel(self._channel)
                self._channel = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self) -> None:
        for path in self._readable:
            if path == self._workspace or path.startswith(self._workspace + os.sep):
                raise SandboxError(
                    f"the readable path {path} lies in the workspace, where commands may write. "
                    "Move it elsewhere and link to it"
                )
        for path in (self._workspace, *self._readable):
            if any(library == path or library.startswith(path.rstrip("/") + "/") for library in _LIBRARY):
                raise SandboxError(f"{path} contains the library itself, which commands must not read")

    def _argv(self, command: str) -> list[str]:
        return [fork_client.bash(), "--norc", "--noprofile", "-c", command]

    def _env(self, limits: Limits, home: str) -> dict[str, str]:
        return environment(Path(home), limits.threads, gpu=self._policy.gpu)

    def _setup(self) -> dict[str, Any]:
        """The request that a supervisor sets the sandbox up from."""
        return {
            "tier": self._tier,
            "workspace": self._workspace,
            "readable": self._readable,
            "network": self._policy.network,
            "gpu": self._policy.gpu,
            "home": self._home,
            "uid": None,
            "must_reach": [fork_client.bash(), *readable.interpreter_paths()],
        }

    def _connected(self) -> socket.socket:
        if self._channel is None:
            if self._tier != "strong":
                self._home = _new_home()
            self._channel, self._uid = fork_client.connect(self._setup())
            self._check_open()
        return self._channel

    def _check_open(self) -> None:
        """Raise if the sandbox is closed or interrupted, perhaps by another thread just now."""
        if self._closed:
            raise SandboxError("this sandbox is closed; open a new one")

    @property
    def _shares(self) -> bool:
        """Whether jobs may be running next to the next command."""
        return any(job.result is None for job in self._jobs)

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        """Hold the lock, and abandon the supervisor if it fails."""
        if not self._owner.is_here:
            raise SandboxError("this sandbox belongs to the process that opened it; open one in this process")
        with self._lock:
            self._check_open()
            try:
                yield
            except OSError as error:
                self._abandon()
                raise SandboxError(f"the sandbox's supervisor was lost: {error}") from error
            except BaseException:
                self._abandon()
                raise

    def _call(self, request: dict[str, Any], descriptors: tuple[int, ...] = ()) -> messages.Message:
        """The answer to a request that runs no command."""
        channel = self._connected()
        channel.settimeout(_GRACE_SECONDS)
        messages.send(channel, request, descriptors=descriptors)
        message = messages.receive(channel)
        if message is None:
            raise SandboxError("the sandbox's supervisor ended; the next command starts a new one")
        return message

    def _request(self, command: str, limits: Limits, home: str) -> dict[str, Any]:
        return {
            "argv": self._argv(command),
            "env": self._env(limits, home),
            "cwd": self._workspace,
            "limits": {field.name: getattr(limits, field.name) for field in fields(limits)},
        }

    def _run(self, command: str, limits: Limits, log: Path | None, ends: list[int]) -> ExecResult:
        channel = self._connected()
        channel.settimeout(limits.seconds + _GRACE_SECONDS)
        request = {**self._request(command, limits, self._home), "shared": self._shares}
        request["played"] = bool(ends)
        if log is None:
            return self._exchange(channel, request, (), ends)
        result = None
        with log.open("xb", buffering=0) as file:
            os.fchmod(file.fileno(), _LOG_MODE)
            try:
                result = self._exchange(channel, request, (file.fileno(),), ends)
            finally:
                if result is None or not result.omitted:
                    log.unlink()
        return result

    def _exchange(
        self, channel: socket.socket, request: dict[str, Any], log: tuple[int, ...], ends: list[int]
    ) -> ExecResult:
        messages.send(channel, request, descriptors=(*log, *ends))
        messages.close_all(ends)  # the other side must notice when the command has closed its own
        message = messages.receive(channel)
        if message is None:
            raise SandboxError(
                "the sandbox's supervisor ended during a command; the next command starts a new one"
            )
        if message.fields.get("last"):
            self._disconnect()  # the supervisor is still removing what the command left
        return read_result(message)

    def _end_jobs(self) -> None:
        """End all jobs: they need the supervisor of the sandbox."""
        for job in self._jobs:
            job.close()
        self._jobs = []

    def _abandon(self) -> None:
        """Disconnect a supervisor that failed, and remove the home that it can no longer remove."""
        self._end_jobs()
        self._disconnect()
        remove_home("" if self._tier == "strong" else self._home)

    def _disconnect(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def _real(path: Path) -> str:
    try:
        return str(path.resolve(strict=True))
    except OSError as error:
        raise SandboxError(f"{path} cannot be made available in a sandbox: {error.strerror}") from error


def _new_home() -> str:
    """A new path for a private folder of commands."""
    return f"{_scratch_root()}/mlrcbench-{secrets.token_hex(8)}"


def _scratch_root() -> str:
    """A folder for temporary files that every user can pass through."""
    return "/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir()
