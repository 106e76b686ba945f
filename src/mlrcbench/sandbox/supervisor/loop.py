"""The supervisor of one sandbox: it starts commands, ends them, and is never confined.

It lives as long as its control channel: when the host process closes the channel or dies, in
whatever way, everything below the supervisor is killed. One command runs at a time. A command that
is a *job* has a separate supervisor, and the host may make requests while it runs (see
`job_requests.py`). So a supervisor that ends everything below it ends one command, or one job.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import time

from . import disk, kernel, messages
from .box import Box
from .clock import Clock
from .connections import Connections
from .holdings import Holdings
from .job_requests import JobRequests
from .launcher import Launcher
from .output import OutputRing
from .search import WALL_SECONDS, Search
from .setup import prepare
from .watchdog import Watchdog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SPARE_SECONDS = 5.0
_HOST_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class HostGoneError(Exception):
    """The host process has closed the control channel."""


class Supervisor:
    """Runs the commands of one sandbox."""

    def __init__(self, channel: socket.socket, box: Box) -> None:
        self._channel = channel
        self._box = box
        self._processes = box.processes
        self._connections = Connections(box.confinement.proc, box.confinement.uid, (box.workspace, box.home))
        self._spare: Launcher | None = None
        self._finished = False

    def serve(self) -> None:
        """Answer requests until the host process is gone."""
        try:
            while not self._finished and self._wait():
                message = messages.receive(self._channel)
                if message is None or message.fields.get("close"):
                    break
                self._answer(message)
        except (HostGoneError, ConnectionError):
            pass
        finally:
            self.end()

    def end(self) -> None:
        """End all processes and remove all files of the sandbox but its workspace."""
        self._processes.end()
        self._box.remove()

    def _wait(self) -> bool:
        """Wait for a request; a spare launcher that is not used for some seconds is dropped."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        if self._spare is not None and not poll.poll(_SPARE_SECONDS * 1000):
            self._drop_spare()
        return True

    def _answer(self, message: messages.Message) -> None:
        request = message.fields
        job = JobRequests(self._channel, self._box.confinement) if request.get("job") else None
        try:
            fields, blob = self._carry_out(request, message.descriptors, job)
        except (OSError, ValueError, KeyError) as error:
            self._drop_spare()
            self._processes.end()
            fields, blob = {"error": f"{error}"}, b""
        finally:
            messages.close_all(message.descriptors)
        if job is not None:
            job.await_request()
        messages.send(self._channel, fields, blob)
        self._processes.begin()
        if self._spare is None and not self._finished and job is None and not fields.get("error"):
            self._spare = Launcher(self._box.confinement)

    def _carry_out(
        self, request: dict[str, Any], descriptors: list[int], job: JobRequests | None
    ) -> tuple[dict[str, Any], bytes]:
        self._processes.shared = self._box.shared = request["shared"]
        if "search" in request:
            return self._search(request, descriptors[0]), b""
        if "argv" in request:
            return self._run(request, descriptors, job)
        return {}, b""

    def _search(self, request: dict[str, Any], log: int) -> dict[str, Any]:
        """Search the whole output of a job that has ended."""
        search = Search(self._box.confinement, log, request["search"], request["start"], final=True)
        try:
            return search.result(WALL_SECONDS)
        finally:
            search.close()

    def _run(
        self, request: dict[str, Any], descriptors: list[int], job: JobRequests | None
    ) -> tuple[dict[str, Any], bytes]:
        """Run a command.

        The descriptors are of its log, to write to, and for a job also to read from; the last two are the
        ends of a channel, if the request says so.
        """
        limits = request["limits"]
        ends = tuple(descriptors[-2:]) if request.get("played") else ()
        log = descriptors[0] if len(descriptors) > len(ends) else None
        ring = OutputRing(limits["output_bytes"], limits["log_bytes"], log)
        self._box.make_ready(limits)
        could_grow = self._box.used <= limits["workspace_bytes"]
        launcher = self._start(request, ends)
        if ends:
            os.close(
                descriptors.pop()
            )  # so that the host sees when the command's processes have closed theirs
        try:
            if job is not None:
                job.open(ring, descriptors[1])
            watchdog = self._watch(limits)
            clock = Clock(limits["seconds"], ends[0] if ends else None)
            ending, wall_seconds = self._pump(launcher, ring, watchdog, clock, job)
            self._processes.end()
            while ring.read(launcher.output):
                pass
        finally:
            launcher.close()
            if job is not None:
                job.close()
        self._box.measure(wall_seconds, limits)
        if ending == "exited" and self._box.used > limits["workspace_bytes"]:
            ending = "disk"
        if not self._clean():
            ending = "disk"
        status = self._processes.status(launcher.pid)
        head, tail, omitted = ring.result()
        return {
            "ending": ending,
            "status": os.waitstatus_to_exitcode(status) if status is not None else None,
            "head": len(head),
            "omitted": omitted,
            "total": ring.total,
            "wall_seconds": wall_seconds,
            "cpu_seconds": self._processes.cpu_seconds,
            "could_grow": could_grow,
            "peak_bytes": max(self._processes.peak_bytes, watchdog.peak_bytes),
            "last": self._finished,
        }, head + tail

    def _start(self, request: dict[str, Any], ends: tuple[int, ...]) -> Launcher:
        """Hand the command to the spare launcher, or to a new one."""
        self._processes.begin()
        command = {
            "argv": request["argv"],
            "env": request["env"],
            "cwd": request["cwd"],
            "rlimits": self._box.rlimits(request["limits"]),
        }
        for _ in range(2):
            launcher, self._spare = self._spare or Launcher(self._box.confinement), None
            try:
                launcher.start(command, ends)
                return launcher
            except ConnectionError:
                launcher.close()  # the spare was killed while it waited
                self._processes.end()
            except OSError:
                launcher.close()
                self._processes.end()
                raise
        raise OSError("the launcher was killed before it could start the command")

    def _watch(self, limits: dict[str, Any]) -> Watchdog:
        box = self._box
        return Watchdog(
            self._processes,
            limits,
            holdings=Holdings(self._processes, box.memory_folders, own_network=box.own_network),
            folders=box.watched,
            memory_folders=box.memory_folders,
            count=box.shared or not box.counted_by_kernel,
            allowed=box.used if box.used < disk.UNKNOWN else 0,
            group=box.group,
        )

    def _pump(
        self, launcher: Launcher, ring: OutputRing, watchdog: Watchdog, clock: Clock, job: JobRequests | None
    ) -> tuple[str, float]:
        """Read output until the main process ends, a limit is passed, or the host ends a job or a channel.

        A command ends when its main process does, not when the pipe is closed, which a daemon
        could hold open.
        """
        exited = os.pidfd_open(launcher.pid)
        poll = select.poll()
        poll.register(self._channel, _HOST_GONE if job is None else _HOST_GONE | select.POLLIN)
        poll.register(launcher.output, select.POLLIN)
        poll.register(exited, select.POLLIN)
        if launcher.listener is not None:
            poll.register(launcher.listener, select.POLLIN)
        clock.watch(poll)
        try:
            while True:
                now = time.monotonic()
                if now >= clock.deadline:
                    return (clock.ending, clock.seconds)
                if now >= watchdog.next_look:
                    self._processes.reap()
                    if ending := watchdog.look():
                        return (ending, clock.seconds)
                    continue
                wait = min(clock.deadline, watchdog.next_look, job.next_look if job else clock.deadline) - now
                ready = {number for number, _ in poll.poll(max(0.0, wait * 1000 + 0.5))}
                clock.look(poll, ready)
                if launcher.output in ready and not ring.read(launcher.output):
                    poll.unregister(launcher.output)
                elif exited in ready:
                    return ("exited", clock.seconds)
                elif launcher.listener in ready:
                    self._connections.answer(launcher.listener)
                if self._attend(job, poll, ready):
                    return ("killed", clock.seconds)
        finally:
            os.close(exited)

    def _attend(self, job: JobRequests | None, poll: select.poll, ready: set[int]) -> bool:
        """Attend to the host while a command runs; returns whether the host wants the command to end.

        Raises:
            HostGoneError: The host process is gone.
        """
        if self._channel.fileno() in ready and (job is None or not job.take()):
            raise HostGoneError
        if job is not None:
            job.look(poll, ready)
        return job is not None and job.ended

    def _clean(self) -> bool:
        """Empty the private folders; if they hold too much, this was the supervisor's last command."""
        try:
            self._box.clean()
        except OSError:
            self._finished = True
        return not self._finished

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None
            self._processes.end()


def main(control: int, view: dict[str, Any]) -> None:
    """Run as the supervisor behind a control channel.

    Args:
        control: A connected socket, through which the first message and all requests come.
        view: What every sandbox of this host process may read, see `setup.prepare`.
    """
    _set_up_process()
    channel = socket.socket(fileno=control)
    message = messages.receive(channel)
    if message is None:
        return
    try:
        box = prepare(message.fields, view)
    except (OSError, ValueError, KeyError) as error:
        messages.send(channel, {"error": f"{error}"})
        return
    messages.send(channel, {"ready": True, "uid": box.uid})
    Supervisor(channel, box).serve()


def _set_up_process() -> None:
    """Ignore signals that end a process, adopt orphans, and allow many open files."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1 << 16), hard))
