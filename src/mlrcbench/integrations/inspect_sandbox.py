"""Inspect's sandboxes: commands confined by mlrcbench, without a container and without root.

    Task(..., sandbox="mlrcbench")              # the strongest kind that works here
    Task(..., sandbox=("mlrcbench", "uid"))     # one kind of `mlrcbench.sandbox.KINDS`

It is for tools of Inspect or of others; the tools of our own tasks act on an episode, which has its own
sandbox. A sample's files are in a folder in which every command starts. Where a command has a private
/tmp, which is emptied after it, the content is copied to the next command's (not from a command that
ran out of time). One command runs at a time, none of its processes outlives it, and it has no network.

Reading and writing are commands too, so that a path means the same to Inspect and to the agent.
A command's script and input lie where no command can write. Its output goes into files that are opened
before it runs, while nothing else does, and that are read by descriptor, whatever the command does to their
names. What a command did to the folders that the next one needs is repaired before that one runs; what it
did to its own files is its problem, and never more than a failed call.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import stat
import tempfile
import threading
from collections.abc import Iterator
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

from mlrcbench.sandbox import Limits, Policy, Sandbox, open_sandbox
from mlrcbench.storage.trees import remove_tree

_DAY = 86_400
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MISSING, _FOLDER, _REFUSED, _LARGE = range(64, 68)
_REFUSALS = {_MISSING: FileNotFoundError, _FOLDER: IsADirectoryError, _REFUSED: PermissionError}
_MESSAGES = {_MISSING: "the file does not exist", _FOLDER: "it is a directory", _REFUSED: "permission denied"}

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
# The command replaces its own shell; this outer one keeps the content of /tmp where /tmp is private. Other
# file systems below it, such as the folder of an interpreter that lies there, are not copied.
_SCRIPT = """
if test "$HOME" = /tmp; then cp --archive "$PWD/tmp/." /tmp/; fi
( cd files || exit; {command} ) < {calls}/{name}.in > {name}.out 2> {name}.err
status=$?
if test "$HOME" = /tmp; then
  top=${{PWD#/tmp/}}
  rm --recursive --force tmp; mkdir tmp
  find /tmp -mindepth 1 -maxdepth 1 ! -name "${{top%%/*}}" \
    -exec cp --archive --one-file-system --target-directory tmp {{}} +
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
        self._root, self._calls = self._top / "sandbox", self._top / "calls"
        for folder in (self._root, self._calls):
            folder.mkdir()
            folder.chmod(0o755)
        self._root_fd = os.open(self._root, _OPEN_FOLDER)
        self._turn = threading.Lock()
        self._box = self._open_box()

    def close(self) -> None:
        """End its processes and remove its files."""
        try:
            self._box.close()
        finally:
            os.close(self._root_fd)
            with contextlib.suppress(OSError):
                remove_tree(self._top)

    @classmethod
    async def sample_init(
        cls, task_name: str, config: Any, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        """Open a sandbox for a sample."""
        kind = Path(config).name if isinstance(config, str) else "auto"
        return {"default": await anyio.to_thread.run_sync(cls, kind)}

    @classmethod
    async def sample_cleanup(
        cls, task_name: str, config: Any, environments: dict[str, SandboxEnvironment], interrupted: bool
    ) -> None:
        """Close a sample's sandboxes."""
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
        limit = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE
        limit_text = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE_STR
        status, out, err = await self._run(command, _bytes(input), timeout, limit)
        for stream in (out, err):
            if len(stream) > limit:
                raise OutputLimitExceededError(limit_text, stream[:limit].decode(errors="replace"))
        errors = err.decode(errors="replace")
        if status == 126 and "ermission denied" in errors:
            raise PermissionError(errors.strip())
        return ExecResult(status == 0, status, out.decode(errors="replace"), errors)

    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Write a file; see `SandboxEnvironment.write_file`."""
        status, _, err = await self._run(_script(_WRITE, file), _bytes(contents), None, 4096)
        self._check(status, file, err)

    async def read_file(self, file: str, text: bool = True) -> Any:
        """Read a file; see `SandboxEnvironment.read_file`."""
        limit = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE
        status, out, err = await self._run(_script(_READ, file, str(limit)), b"", None, limit)
        if status == _LARGE or len(out) > limit:
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None)
        self._check(status, file, err)
        return out.decode("utf-8") if text else out

    def _check(self, status: int, file: str, err: bytes) -> None:
        if status in _REFUSALS:
            raise _REFUSALS[status](f"{file!r}: {_MESSAGES[status]}")
        if status != 0:
            raise PermissionError(f"{file!r} could not be used: {err.decode(errors='replace')}")

    async def _run(
        self, command: str, input: bytes, timeout: float | None, limit: int
    ) -> tuple[int, bytes, bytes]:
        """Status, output and error output, each read up to one byte more than `limit`.

        A call that is cancelled ends the command.
        """
        box = self._box
        try:
            result: tuple[int, bytes, bytes] = await anyio.to_thread.run_sync(
                self._call, box, command, input, timeout, limit, abandon_on_cancel=True
            )
            return result
        except anyio.get_cancelled_exc_class():
            self._box = self._open_box()
            box.interrupt()
            raise

    def _open_box(self) -> Sandbox:
        return open_sandbox(self._kind, Policy(self._root, readable=(self._calls,)))

    def _call(
        self, box: Sandbox, command: str, input: bytes, timeout: float | None, limit: int
    ) -> tuple[int, bytes, bytes]:
        with self._turn:  # no other command runs while the files of this one are made
            self._repair()
            name = f".call-{secrets.token_hex(8)}"
            script = _SCRIPT.format(command=command, calls=shlex.quote(str(self._calls)), name=name)
            paths = [self._calls / f"{name}.sh", self._calls / f"{name}.in"]
            try:
                for path, content in zip(paths, (_bytes(script), input), strict=True):
                    self._write(path, content, box)
                with self._output(f"{name}.out") as out, self._output(f"{name}.err") as err:
                    seconds = _DAY if timeout is None else timeout
                    result = box.run(f"bash {shlex.quote(str(paths[0]))}", Limits(seconds=seconds))
                    if result.ending == "timeout":
                        raise TimeoutError(f"the command ran longer than {seconds:g} s")
                    status = 137 if result.exit_status is None else result.exit_status
                    return status, os.pread(out, limit + 1, 0), os.pread(err, limit + 1, 0)
            finally:
                for path in paths:
                    path.unlink(missing_ok=True)

    def _repair(self) -> None:
        """Make sure that the folders which commands need are there, and open to them."""
        _allow_all_to_owner(self._root_fd)
        for name in ("files", "tmp"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=self._root_fd)
            if not stat.S_ISDIR(os.stat(name, dir_fd=self._root_fd, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=self._root_fd)
                os.mkdir(name, 0o755, dir_fd=self._root_fd)
            folder = os.open(name, os.O_PATH | _OPEN_FOLDER, dir_fd=self._root_fd)
            try:
                _allow_all_to_owner(folder)
            finally:
                os.close(folder)

    def _write(self, path: Path, content: bytes, box: Sandbox) -> None:
        """Write a file for one command, which runs as this user or, in one kind, as another one."""
        mode = 0o644 if box.isolation.tier == "uid" else 0o600
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)

    @contextlib.contextmanager
    def _output(self, name: str) -> Iterator[int]:
        """The descriptor of a new file for output, which the command may open by its name."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=self._root_fd)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
            with contextlib.suppress(OSError):  # the command may have removed or replaced it
                os.unlink(name, dir_fd=self._root_fd)


def _allow_all_to_owner(folder: int) -> None:
    """Give the owner of an open folder, or of one opened as a path, all permissions to it."""
    mode = stat.S_IMODE(os.fstat(folder).st_mode)
    if mode & 0o700 != 0o700:
        os.chmod(f"/proc/self/fd/{folder}", mode | 0o700)


def _bytes(content: str | bytes | None) -> bytes:
    """Content as bytes; what is no Unicode becomes a question mark."""
    return content.encode(errors="replace") if isinstance(content, str) else content or b""


def _script(script: str, *arguments: str) -> str:
    """A command that runs a script of `sh` with arguments."""
    return f"exec {shlex.join(['sh', '-c', script, 'sh', *arguments])}"
