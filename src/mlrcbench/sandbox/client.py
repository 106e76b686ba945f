"""The host's side of the helper processes: one template per process, one channel per sandbox.

The template is started when it is first needed, again if it died, and never shared with a
forked copy of this process: a fork forgets the template and closes the channels it inherited,
so that they end with the process that owns them.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

from mlrcbench.errors import SandboxError
from mlrcbench.sandbox import visible
from mlrcbench.sandbox.supervisor import wire
from mlrcbench.sandbox.supervisor.process_tree import ProcessTree

# Loads the helper modules as a package of their own, without the library around them.
_BOOT = """
import sys, types
package = types.ModuleType("helper")
package.__path__ = [sys.argv[1]]
sys.modules["helper"] = package
from helper import template
template.main(int(sys.argv[2]))
"""
_START_SECONDS = 30.0
_END_SECONDS = 5.0


class _Template:
    """The template process of this process."""

    def __init__(self) -> None:
        self.channel, theirs = socket.socketpair()
        folder = Path(wire.__file__).parent
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, str(folder), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd="/",
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            )
        self.channel.settimeout(_START_SECONDS)
        wire.send(self.channel, visible.view().to_json())
        _expect_ready(self.channel)

    def fork(self) -> socket.socket:
        """A channel to a new supervisor."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                wire.send(self.channel, {}, descriptors=(theirs.fileno(),))
            except BaseException:
                ours.close()
                raise
        return ours

    def end(self) -> None:
        """Let it end; supervisors live on until their channels close."""
        self.channel.close()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def forget(self) -> None:
        """In a forked copy of this process: let go of it."""
        self.channel.close()
        self.process.returncode = 0


class _State:
    """What a process has of helper processes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.template: _Template | None = None
        self.channels: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def forget(self) -> None:
        """In a forked copy: none of these are ours."""
        if self.template is not None:
            self.template.forget()
        for channel in list(self.channels):
            channel.close()
        self.__init__()  # type: ignore[misc]


_state = _State()


def connect(wanted: dict[str, Any]) -> tuple[socket.socket, int | None]:
    """Start a supervisor.

    Args:
        wanted: See `supervisor.setup.prepare`.

    Returns:
        The channel to it, and the number of the user that commands run as, if it is another;
        closing the channel ends everything below.

    Raises:
        SandboxError: It could not set up what was asked for; the text says why.
    """
    channel = _fork_supervisor()
    try:
        channel.settimeout(_START_SECONDS)
        wire.send(channel, wanted)
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
    """Where the shell is.

    Raises:
        SandboxError: There is none.
    """
    found = shutil.which("bash", path="/usr/local/bin:/usr/bin:/bin")
    if found is None:
        raise SandboxError("commands need bash in /usr/bin or /bin; install the package 'bash'")
    return found


def _fork_supervisor() -> socket.socket:
    if not sys.platform.startswith("linux"):
        raise SandboxError(f"sandboxes need Linux; this is {sys.platform!r}")
    with _state.lock:
        for last in (False, True):
            try:
                if _state.template is None:
                    _state.template = _Template()
                channel = _state.template.fork()
                _state.channels.add(channel)
                return channel
            except OSError as error:  # it died since it was last used
                _drop_template()
                if last:
                    raise SandboxError(
                        f"the helper process of sandboxes could not be started: {error}"
                    ) from error
    raise AssertionError


def _expect_ready(channel: socket.socket) -> dict[str, Any]:
    message = wire.receive(channel)
    if message is None:
        raise OSError("it ended while it was starting")
    if "error" in message.fields:
        raise SandboxError(str(message.fields["error"]))
    return message.fields


def _drop_template() -> None:
    if _state.template is not None:
        with contextlib.suppress(OSError):
            _state.template.end()
        _state.template = None


def forget_template() -> None:
    """End the template; the next sandbox starts another. Sandboxes that run are not affected."""
    with _state.lock:
        _drop_template()


def supervisor_pids() -> list[int]:
    """Process numbers of the supervisors, and of what they have forked ahead."""
    if _state.template is None:
        return []
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        return ProcessTree(namespaced=False, uid=None, proc=proc).below([_state.template.process.pid])
    finally:
        os.close(proc)


atexit.register(forget_template)
os.register_at_fork(after_in_child=_state.forget)
