"""The confined backend, in three tiers: strong, uid, landlock.

All three are Landlock, seccomp, resource limits and dropped capabilities, applied to each
command by itself; they differ in what else is around it.

* `strong`: namespaces and a private file tree that contains nothing but what is allowed.
  As root, commands also run as a user of their own.
* `uid`: as root where namespaces are refused: a user of their own, no private tree.
* `landlock`: the same user, no namespaces.

None of them protects against bugs of the kernel, or against what is learned from timing,
load, and shared caches. What a tier leaves open is listed in `isolation.py`, and comes with
every sandbox as `isolation`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
import threading
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlrcbench.errors import SandboxError
from mlrcbench.sandbox import ExecResult, Isolation, Limits, Policy, client, environment, visible
from mlrcbench.sandbox.isolation import describe
from mlrcbench.sandbox.supervisor import files, wire

_GRACE_SECONDS = 60.0
_LIBRARY = visible.library_paths()


class SupervisedSandbox:
    """A sandbox whose commands are run by a supervisor process, which starts with the first.

    One command runs at a time; calls from several threads wait for each other. After a
    `SandboxError` the next `run` starts a fresh supervisor.
    """

    def __init__(self, tier: str, policy: Policy) -> None:
        """Check the policy; nothing is started yet.

        Args:
            tier: "strong", "uid", "landlock", or "process" for no confinement.
            policy: What commands may reach.

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
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._closed = False

    @property
    def isolation(self) -> Isolation:
        """What this tier enforces here."""
        return describe(self._tier, self._policy)

    def start(self) -> None:
        """Start the supervisor now, rather than with the first command.

        Raises:
            SandboxError: It cannot be set up as the policy asks; the text says why.
        """
        with self._lock:
            if not self._closed:
                self._connected()

    def run(self, command: str, limits: Limits, *, log: Path | None = None) -> ExecResult:
        """See `Sandbox.run`."""
        if self._owner != os.getpid():
            raise SandboxError("this sandbox belongs to the process that opened it; open one in this process")
        with self._lock:
            if self._closed:
                raise SandboxError("this sandbox is closed; open a new one")
            try:
                return self._run(command, limits, log)
            except OSError as error:
                self._abandon()
                raise SandboxError(f"the sandbox's supervisor was lost: {error}") from error
            except BaseException:
                self._abandon()
                raise

    def close(self) -> None:
        """End every process. Idempotent."""
        if self._owner != os.getpid():
            return
        with self._lock:
            self._closed = True
            if self._channel is not None:
                with contextlib.suppress(OSError):
                    self._channel.settimeout(_GRACE_SECONDS)
                    wire.send(self._channel, {"close": True})
                    wire.receive(self._channel)  # it closes its side when all have ended
            self._disconnect()

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
                    "Keep it outside and link to it"
                )
        for path in (self._workspace, *self._readable):
            if any(library == path or library.startswith(path.rstrip("/") + "/") for library in _LIBRARY):
                raise SandboxError(f"{path} contains the library itself, which must stay hidden")

    def _argv(self, command: str) -> list[str]:
        return [client.bash(), "--norc", "--noprofile", "-c", command]

    def _env(self, limits: Limits) -> dict[str, str]:
        return environment(Path(self._home), limits.threads, gpu=self._policy.gpu)

    def _wanted(self) -> dict[str, Any]:
        return {
            "tier": self._tier,
            "workspace": self._workspace,
            "readable": self._readable,
            "network": self._policy.network,
            "gpu": self._policy.gpu,
            "home": self._home,
            "must_reach": [client.bash(), *visible.interpreter_paths()],
        }

    def _connected(self) -> socket.socket:
        if self._channel is None:
            if self._tier != "strong":
                self._home = f"{_scratch_root()}/mlrcbench-{secrets.token_hex(8)}"
            self._channel = client.connect(self._wanted())
        return self._channel

    def _run(self, command: str, limits: Limits, log: Path | None) -> ExecResult:
        channel = self._connected()
        channel.settimeout(limits.seconds + _GRACE_SECONDS)
        request = {
            "argv": self._argv(command),
            "env": self._env(limits),
            "cwd": self._workspace,
            "limits": {field.name: getattr(limits, field.name) for field in fields(limits)},
        }
        if log is None:
            return self._exchange(channel, request, ())
        result = None
        with log.open("xb", buffering=0) as file:
            try:
                result = self._exchange(channel, request, (file.fileno(),))
            finally:
                if result is None or not result.omitted:
                    log.unlink()
        return result

    def _exchange(self, channel: socket.socket, request: dict[str, Any], log: tuple[int, ...]) -> ExecResult:
        wire.send(channel, request, descriptors=log)
        message = wire.receive(channel)
        if message is None:
            raise SandboxError(
                "the sandbox's supervisor ended during a command; the next command starts a new one"
            )
        if message.fields.get("last"):
            self._disconnect()  # it is still busy removing what the command left
        return _result(message)

    def _abandon(self) -> None:
        """Let go of a supervisor that failed, and remove the home that it may not remove any more."""
        self._disconnect()
        if self._tier != "strong" and self._home:
            with contextlib.suppress(OSError):
                files.empty(self._home, seconds=_GRACE_SECONDS)
                os.rmdir(self._home)

    def _disconnect(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def _result(message: wire.Message) -> ExecResult:
    told = message.fields
    if "error" in told:
        raise SandboxError(str(told["error"]))
    status = told["status"]
    if status is not None and status < 0:
        status = 128 - status
    return ExecResult(
        ending=told["ending"],
        exit_status=status if told["ending"] == "exited" else None,
        head=message.blob[: told["head"]],
        tail=message.blob[told["head"] :],
        omitted=told["omitted"],
        wall_seconds=told["wall_seconds"],
        cpu_seconds=told["cpu_seconds"],
        peak_memory_bytes=told["peak_bytes"],
    )


def _real(path: Path) -> str:
    try:
        return str(path.resolve(strict=True))
    except OSError as error:
        raise SandboxError(f"{path} cannot be shown in a sandbox: {error.strerror}") from error


def _scratch_root() -> str:
    """A folder that every user can pass through."""
    return "/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir()
