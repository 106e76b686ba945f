"""The supervisor of one sandbox: it starts commands, ends them, and is never confined.

It lives as long as its control channel: when the host process closes it or dies, however it
dies, everything below the supervisor is killed. One command runs at a time; a command that is
a *job* lets the host ask for things while it runs (see `desk.py`), and has a supervisor of its
own, so that to end everything below one never means to tell whose process is whose.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import time

from . import kernel, wire
from .child import Child
from .desk import Desk
from .output import OutputRing
from .place import Place
from .search import WALL_SECONDS, Search
from .setup import prepare
from .watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SPARE_SECONDS = 5.0
_HOST_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class HostGoneError(Exception):
    """The host process has closed the control channel."""


class Supervisor:
    """Runs the commands of one sandbox."""

    def __init__(self, channel: socket.socket, place: Place) -> None:
        self._channel = channel
        self._place = place
        self._tree = place.tree
        self._spare: Child | None = None
        self._finished = False

    def serve(self) -> None:
        """Answer requests until the host process is gone."""
        try:
            while not self._finished and self._wait():
                message = wire.receive(self._channel)
                if message is None or message.fields.get("close"):
                    break
                self._answer(message)
        except (HostGoneError, ConnectionError):
            pass
        finally:
            self.end()

    def end(self) -> None:
        """Leave nothing behind."""
        self._tree.end()
        self._place.remove()

    def _wait(self) -> bool:
        """Wait for a request; an unused spare child is given up after a while."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        if self._spare is not None and not poll.poll(_SPARE_SECONDS * 1000):
            self._drop_spare()
        return True

    def _answer(self, message: wire.Message) -> None:
        request = message.fields
        desk = Desk(self._channel, self._place.confinement) if request.get("job") else None
        try:
            fields, blob = self._carry_out(request, message.descriptors, desk)
        except (OSError, ValueError, KeyError) as error:
            self._drop_spare()
            self._tree.end()
            fields, blob = {"error": f"{error}"}, b""
        finally:
            wire.close_all(message.descriptors)
        if desk is not None:
            desk.await_request()
        wire.send(self._channel, fields, blob)
        self._tree.begin()
        if self._spare is None and not self._finished and desk is None and not fields.get("error"):
            self._spare = Child(self._place.confinement)

    def _carry_out(
        self, request: dict[str, Any], descriptors: list[int], desk: Desk | None
    ) -> tuple[dict[str, Any], bytes]:
        self._tree.shared = self._place.shared = request["shared"]
        if "search" in request:
            return self._search(request, descriptors[0]), b""
        if "argv" in request:
            return self._run(request, descriptors, desk)
        return {}, b""

    def _search(self, request: dict[str, Any], log: int) -> dict[str, Any]:
        """Search the output of a job that has ended."""
        search = Search(self._place.confinement, log, request["search"], request["start"], final=True)
        try:
            return search.result(WALL_SECONDS)
        finally:
            search.close()

    def _run(
        self, request: dict[str, Any], descriptors: list[int], desk: Desk | None
    ) -> tuple[dict[str, Any], bytes]:
        """Run a command, with its log to write to, and for a job also to read from."""
        limits = request["limits"]
        ring = OutputRing(
            limits["output_bytes"], limits["log_bytes"], descriptors[0] if descriptors else None
        )
        self._place.make_ready(limits)
        child = self._start(request)
        try:
            if desk is not None:
                desk.open(ring, descriptors[1])
            watch = self._watch(limits)
            ending, wall_seconds = self._pump(child, ring, watch, limits["seconds"], desk)
            self._tree.end()
            while ring.read(child.output):
                pass
        finally:
            child.close()
            if desk is not None:
                desk.close()
        self._place.measure(wall_seconds, limits)
        if ending == "exited" and self._place.used > limits["workspace_bytes"]:
            ending = "disk"
        elif ending == "disk":
            watch.disk([])  # as it stands now that nothing grows any more
        if not self._clean():
            ending = "disk"
        status = self._tree.status(child.pid)
        head, tail, omitted = ring.result()
        return {
            "ending": ending,
            "status": os.waitstatus_to_exitcode(status) if status is not None else None,
            "head": len(head),
            "omitted": omitted,
            "total": ring.total,
            "wall_seconds": wall_seconds,
            "cpu_seconds": self._tree.cpu_seconds,
            "peak_bytes": max(self._tree.peak_bytes, watch.peak_bytes),
            "last": self._finished,
        }, head + tail

    def _start(self, request: dict[str, Any]) -> Child:
        """Hand the command to the waiting child, or to a new one if there is none."""
        self._tree.begin()
        command = {
            "argv": request["argv"],
            "env": request["env"],
            "cwd": request["cwd"],
            "rlimits": self._place.rlimits(request["limits"]),
        }
        for _ in range(2):
            child, self._spare = self._spare or Child(self._place.confinement), None
            try:
                child.start(command)
                return child
            except ConnectionError:
                child.close()  # the spare was killed while it waited
                self._tree.end()
            except OSError:
                child.close()
                self._tree.end()
                raise
        raise OSError("the confined child was killed before it could start")

    def _watch(self, limits: dict[str, Any]) -> Watch:
        place = self._place
        return Watch(
            self._tree,
            limits,
            folders=place.watched,
            memory_folders=place.memory_folders,
            count=place.shared or not place.counted_by_kernel,
            allowed=place.used,
        )

    def _pump(
        self, child: Child, ring: OutputRing, watch: Watch, seconds: float, desk: Desk | None
    ) -> tuple[str, float]:
        """Read output until the main process ends, a limit is passed, or the host ends a job.

        The end of a command is the end of its main process, never the end of the pipe, which
        a daemon could hold open.
        """
        started = time.monotonic()
        deadline = started + seconds
        exited = os.pidfd_open(child.pid)
        poll = select.poll()
        poll.register(self._channel, _HOST_GONE if desk is None else _HOST_GONE | select.POLLIN)
        poll.register(child.output, select.POLLIN)
        poll.register(exited, select.POLLIN)
        try:
            while True:
                now = time.monotonic()
                if now >= deadline:
                    return ("timeout", now - started)
                if now >= watch.next_look:
                    self._tree.reap()
                    if ending := watch.look():
                        return (ending, now - started)
                    continue
                wait = min(deadline, watch.next_look, desk.next_look if desk else deadline) - now
                ready = {number for number, _ in poll.poll(max(0.0, wait * 1000 + 0.5))}
                if child.output in ready and not ring.read(child.output):
                    poll.unregister(child.output)
                elif exited in ready:
                    return ("exited", time.monotonic() - started)
                if self._attend(desk, poll, ready):
                    return ("killed", time.monotonic() - started)
        finally:
            os.close(exited)

    def _attend(self, desk: Desk | None, poll: select.poll, ready: set[int]) -> bool:
        """See what the host wants while a command runs; whether it wants its end.

        Raises:
            HostGoneError: It is gone.
        """
        if self._channel.fileno() in ready and (desk is None or not desk.take()):
            raise HostGoneError
        if desk is not None:
            desk.look(poll, ready)
        return desk is not None and desk.ended

    def _clean(self) -> bool:
        """Empty what is private; if there is too much, this was the supervisor's last command."""
        try:
            self._place.clean()
        except OSError:
            self._finished = True
        return not self._finished

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None
            self._tree.end()


def main(control: int, view: dict[str, Any]) -> None:
    """Be the supervisor behind a control channel.

    Args:
        control: A connected socket, which the first message and all requests come through.
        view: What every sandbox of this host process may see, see `setup.prepare`.
    """
    _own_signals()
    channel = socket.socket(fileno=control)
    message = wire.receive(channel)
    if message is None:
        return
    try:
        place = prepare(message.fields, view)
    except (OSError, ValueError, KeyError) as error:
        wire.send(channel, {"error": f"{error}"})
        return
    wire.send(channel, {"ready": True, "uid": place.uid})
    Supervisor(channel, place).serve()


def _own_signals() -> None:
    """Be reachable by no signal but KILL, and by no debugger; allow many open files."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1 << 16), hard))
