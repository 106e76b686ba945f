"""The host's side of the helper processes: one fork server per process, one channel per supervisor.

The fork server is started when it is first needed, again if it died, and never shared with a
forked copy of this process: a copy closes the channels that it inherited, so that fork server and
supervisors end with the process that owns them.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

from mlrcbench.errors import SandboxError
from mlrcbench.sandbox import readable
from mlrcbench.sandbox.supervisor import messages
from mlrcbench.sandbox.supervisor.process_tree import ProcessTree

# Loads the helper modules as a separate package, without the library around them.
_BOOT = """
import sys, types
package = types.ModuleType("helper")
package.__path__ = [sys.argv[1]]
sys.modules["helper"] = package
from helper import {module}
{module}.main(*sys.argv[2:])
"""
_START_SECONDS = 30.0
_OPEN_FILES = 1 << 16
_END_SECONDS = 5.0
_PRELUDE = "MLRCBENCH_TEST_PRELUDE"


def with_prelude(code: str) -> str:
    """The text that a helper process begins with, given its own code.

    The project's coverage session names a file of Python in the variable MLRCBENCH_TEST_PRELUDE of this
    process; helper processes run it first, to mark which lines they run. Without the variable, which neither
    they nor commands inherit, the text is the code.
    """
    path = os.environ.get(_PRELUDE)
    return f"exec(open({path!r}).read())\n{code}" if path else code


def helper_command(module: str, *arguments: str) -> list[str]:
    """The program and the arguments that run a module of `supervisor/` in a bare interpreter.

    Args:
        module: Name of the module.
        arguments: Those of its function `main`.
    """
    code = with_prelude(_BOOT.format(module=module))
    return [sys.executable, "-I", "-S", "-c", code, str(Path(messages.__file__).parent), *arguments]


class _ForkServer:
    """The fork server of this process."""

    def __init__(self) -> None:
        _allow_open_files()
        self.channel, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                helper_command("fork_server", str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd="/",
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            )
        self.channel.settimeout(_START_SECONDS)
        messages.send(self.channel, readable.view().to_json())
        _expect_ready(self.channel)

    def fork(self) -> socket.socket:
        """A channel to a new supervisor."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                messages.send(self.channel, {}, descriptors=(theirs.fileno(),))
            except BaseException:
                ours.close()
                raise
        return ours

    def end(self) -> None:
        """End the fork server; supervisors live until their channels close."""
        self.channel.close()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def forget(self) -> None:
        """Close this copy's channel, in a forked copy of the process that owns the fork server."""
        self.channel.close()
        self.process.returncode = 0


class _State:
    """The fork server and the channels of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.server: _ForkServer | None = None
        self.channels: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def forget(self) -> None:
        """Begin again without any, in a forked copy of the process that owns them."""
        if self.server is not None:
            self.server.forget()
        for channel in list(self.channels):
            channel.close()
        self.__init__()  # type: ignore[misc]


_state = _State()


def connect(request: dict[str, Any]) -> tuple[socket.socket, int | None]:
    """Start a supervisor.

    Args:
        request: What the sandbox must be like, see `supervisor.setup.prepare`.

    Returns:
        The channel to the supervisor, and the number of the user that commands run as, None for
        this process's own. Closing the channel ends the supervisor and everything below it.

    Raises:
        SandboxError: The sandbox could not be set up; the text says why.
    """
    channel = _fork_supervisor()
    try:
        channel.settimeout(_START_SECONDS)
        messages.send(channel, request)
        uid = _expect_ready(channel).get("uid")
    except OSError as error:
        channel.close()
        raise SandboxError(f"the sandbox's supervisor did not start: {error}") from error
    except BaseException:
        channel.close()
        raise
    return channel, uid


@functools.cache
def bash() -> str:
    """The path of the shell.

    Raises:
        SandboxError: The machine has no bash.
    """
    path = shutil.which("bash", path="/usr/local/bin:/usr/bin:/bin")
    if path is None:
        raise SandboxError("commands need bash in /usr/bin or /bin; install the package 'bash'")
    return path


def _fork_supervisor() -> socket.socket:
    if not sys.platform.startswith("linux"):
        raise SandboxError(f"sandboxes need Linux; this is {sys.platform!r}")
    with _state.lock:
        for last in (False, True):
            try:
                if _state.server is None:
                    _state.server = _ForkServer()
                channel = _state.server.fork()
                _state.channels.add(channel)
                return channel
            except OSError as error:  # it died since it was last used
                _drop_server()
                if last:
                    raise SandboxError(
                        f"the helper process of sandboxes could not be started: {error}"
                    ) from error
    raise AssertionError


def _allow_open_files() -> None:
    """Let this process have as many open files as it may.

    The kernel counts the files in messages on their way for each user, and refuses to send another
    when they are more than the sender may open. Commands of the same user may open fewer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _expect_ready(channel: socket.socket) -> dict[str, Any]:
    message = messages.receive(channel)
    if message is None:
        raise OSError("it ended while it was starting")
    if "error" in message.fields:
        raise SandboxError(str(message.fields["error"]))
    return message.fields


def _drop_server() -> None:
    if _state.server is not None:
        with contextlib.suppress(OSError):
            _state.server.end()
        _state.server = None


def forget_fork_server() -> None:
    """End the fork server; the next sandbox starts another. Sandboxes that run are not affected."""
    with _state.lock:
        _drop_server()


def supervisor_pids() -> list[int]:
    """Process numbers of the supervisors and of their waiting launchers."""
    if _state.server is None:
        return []
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        return ProcessTree(namespaced=False, uid=None, proc=proc).below([_state.server.process.pid])
    finally:
        os.close(proc)


atexit.register(forget_fork_server)
os.register_at_fork(after_in_child=_state.forget)
