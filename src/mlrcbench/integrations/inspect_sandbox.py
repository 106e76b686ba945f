"""Inspect's sandboxes: commands confined by mlrcbench, without a container and without root.

    Task(..., sandbox="mlrcbench")              # the strongest kind that works here
    Task(..., sandbox=("mlrcbench", "uid"))     # one kind of `mlrcbench.sandbox.KINDS`

For tools of Inspect or of anybody else; those of our own tasks act on an episode, which has its
own. A sample's files live in a folder that every command starts in. Where a command has a private
/tmp, which is emptied after it, its content is carried over to the next (not from a command that
ran out of time). One command runs at a time, nothing of it outlives it, and there is no network.

Reading and writing are commands too, so that a path means the same to Inspect and to the agent.
Input and output go through files that are opened before the command runs and are read by
descriptor, whatever it does to their names.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

import anyio
from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentLimits,
    SandboxUserUnsupportedError,
    sandboxenv,
)

import mlrcbench
from mlrcbench.sandbox import Limits, Policy, Sandbox, open_sandbox

_DAY = 86_400
_MISSING, _FOLDER, _REFUSED, _LARGE = range(64, 68)
_REFUSALS = {_MISSING: FileNotFoundError, _FOLDER: IsADirectoryError, _REFUSED: PermissionError}
_WORDS = {_MISSING: "there is no such file", _FOLDER: "it is a directory", _REFUSED: "permission denied"}

_READ = f"""
test -e "$1" || exit {_MISSING}
test ! -d "$1" || exit {_FOLDER}
test -r "$1" || exit {_REFUSED}
test "$(stat --dereference --format %s "$1")" -le "$2" || exit {_LARGE}
exec cat "$1"
"""
_WRITE = f"""
mkdir --parents "$(dirname "$1")" || exit {_REFUSED}
test ! -d "$1" || exit {_FOLDER}
test ! -e "$1" || test -w "$1" || exit {_REFUSED}
cat > "$1" || exit {_REFUSED}
"""
# The command's own shell is replaced by it; this one carries /tmp over, where /tmp is private.
_AROUND = """
if test "$HOME" = /tmp; then cp --archive "$PWD/tmp/." /tmp/; fi
( cd files || exit; {command} ) < {name}.in > {name}.out 2> {name}.err
status=$?
if test "$HOME" = /tmp; then
  top=${{PWD#/tmp/}}
  rm --recursive --force tmp; mkdir tmp
  find /tmp -mindepth 1 -maxdepth 1 ! -name "${{top%%/*}}" -exec cp --archive --target-directory tmp {{}} +
fi
exit $status
"""


@sandboxenv(name="mlrcbench")
class MlrcbenchSandbox(SandboxEnvironment):
    """A folder and a sandbox around it.

    Args:
        kind: See `mlrcbench.sandbox.open_sandbox`.
    """

    def __init__(self, kind: str = "auto") -> None:
        super().__init__()
        self._kind = kind
        self._top = Path(tempfile.mkdtemp(prefix="mlrcbench-inspect-"))
        self._top.chmod(0o711)
        self._root = self._top / "sandbox"
        for name in ("", "files", "calls", "tmp"):
            (self._root / name).mkdir()
        self._calls = os.open(self._root / "calls", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._box: Sandbox = open_sandbox(kind, Policy(self._root))

    def close(self) -> None:
        """End its processes and remove its files."""
        self._box.close()
        os.close(self._calls)
        shutil.rmtree(self._top, ignore_errors=True)

    @classmethod
    async def sample_init(
        cls, task_name: str, config: Any, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        """One sandbox for each sample."""
        kind = Path(config).name if isinstance(config, str) else "auto"
        return {"default": await anyio.to_thread.run_sync(cls, kind)}

    @classmethod
    async def sample_cleanup(
        cls, task_name: str, config: Any, environments: dict[str, SandboxEnvironment], interrupted: bool
    ) -> None:
        """Close them."""
        for environment in environments.values():
            await anyio.to_thread.run_sync(environment.as_type(cls).close)

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Run a command; see `SandboxEnvironment.exec`."""
        if user is not None:
            raise SandboxUserUnsupportedError(
                f"commands run as a user that the sandbox chooses, not as {user!r}; leave out the user"
            )
        exports = [f"export {name}={shlex.quote(value)}" for name, value in (env or {}).items()]
        moves = [f"cd -- {shlex.quote(cwd)} || exit"] if cwd is not None else []
        command = "; ".join([*moves, *exports, f"exec -- {shlex.join(cmd)}"])
        most = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE
        limit = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE_STR
        status, out, err = await self._run(command, _bytes(input), timeout, most)
        for stream in (out, err):
            if len(stream) > most:
                raise OutputLimitExceededError(limit, stream[:most].decode(errors="replace"))
        told = err.decode(errors="replace")
        if status == 126 and "ermission denied" in told:
            raise PermissionError(told.strip())
        return ExecResult(status == 0, status, out.decode(errors="replace"), told)

    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Write a file; see `SandboxEnvironment.write_file`."""
        status, _, err = await self._run(_script(_WRITE, file), _bytes(contents), None, 4096)
        self._check(status, file, err)

    async def read_file(self, file: str, text: bool = True) -> Any:
        """Read a file; see `SandboxEnvironment.read_file`."""
        most = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE
        status, out, err = await self._run(_script(_READ, file, str(most)), b"", None, most)
        if status == _LARGE or len(out) > most:
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None)
        self._check(status, file, err)
        return out.decode("utf-8") if text else out

    def _check(self, status: int, file: str, err: bytes) -> None:
        if status in _REFUSALS:
            raise _REFUSALS[status](f"{file!r}: {_WORDS[status]}")
        if status != 0:
            raise mlrcbench.SandboxError(f"{file!r} could not be used: {err.decode(errors='replace')}")

    async def _run(
        self, command: str, input: bytes, timeout: float | None, most: int
    ) -> tuple[int, bytes, bytes]:
        """Status, output and error output, each read up to one byte more than `most`.

        A call that is cancelled ends the command.
        """
        box = self._box
        try:
            done: tuple[int, bytes, bytes] = await anyio.to_thread.run_sync(
                self._call, box, command, input, timeout, most, abandon_on_cancel=True
            )
            return done
        except anyio.get_cancelled_exc_class():
            self._box = open_sandbox(self._kind, Policy(self._root))
            box.interrupt()
            raise

    def _call(
        self, box: Sandbox, command: str, input: bytes, timeout: float | None, most: int
    ) -> tuple[int, bytes, bytes]:
        name = secrets.token_hex(8)
        script = _AROUND.format(command=command, name=f"calls/{name}")
        files = {}
        try:
            for suffix, content in (("sh", script.encode()), ("in", input), ("out", b""), ("err", b"")):
                files[suffix] = self._open(f"{name}.{suffix}", content)
            seconds = _DAY if timeout is None else timeout
            result = box.run(f"bash calls/{name}.sh", Limits(seconds=seconds))
            if result.ending == "timeout":
                raise TimeoutError(f"the command ran longer than {seconds:g} s")
            status = 137 if result.exit_status is None else result.exit_status
            return status, os.pread(files["out"], most + 1, 0), os.pread(files["err"], most + 1, 0)
        finally:
            for suffix, descriptor in files.items():
                os.close(descriptor)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{name}.{suffix}", dir_fd=self._calls)

    def _open(self, name: str, content: bytes) -> int:
        """A new file of the folder for calls."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=self._calls)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        return descriptor


def _bytes(content: str | bytes | None) -> bytes:
    return content.encode() if isinstance(content, str) else content or b""


def _script(script: str, *arguments: str) -> str:
    """A command that runs a script of `sh` with arguments."""
    return f"exec {shlex.join(['sh', '-c', script, 'sh', *arguments])}"
