"""Plays episodes on a Ray cluster, each in a task of one CPU.

A task does what the local executor does: it starts the episode's process on its node, and ends it
when it is cancelled; when the node dies, the process loses its input and ends by itself. Ray's own
retries are switched off. A lost episode is a failure of the infrastructure, so the run plays it again
once; one that wrote its result before the node died counts as finished.

No files are sent between machines: every node must see the run's directory under the same path, and
must build instances from the same secret. Otherwise a task refuses to play.
"""

from __future__ import annotations

import importlib
import os
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlrcbench.catalog.installation import secret_fingerprint
from mlrcbench.errors import RunError
from mlrcbench.runs.episode_process import END_SECONDS, EpisodeProcess, left_behind
from mlrcbench.runs.local import POLL_SECONDS
from mlrcbench.runs.plan import PLAN
from mlrcbench.runs.results import Result

_WAIT_SECONDS = 0.2
_CONNECT_SECONDS = 10.0


class RayExecutor:
    """Plays episodes as tasks of a Ray cluster.

    Args:
        address: The cluster's address for `ray.init`; by default a cluster is started on this machine,
            and stopped again. A program that has called `ray.init` keeps its cluster.

    Raises:
        RunError: Ray is not installed, or the address has no cluster.
    """

    def __init__(self, address: str | None = None) -> None:
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError:
            raise RunError("playing on a cluster needs Ray: pip install 'mlrcbench[ray]'") from None
        self._ray = ray
        self._mine = not ray.is_initialized()
        if self._mine:
            _connect(ray, address)
        self._play = ray.remote(num_cpus=1, max_retries=0)(_play_on_node)
        self._running: dict[Any, dict[str, Any]] = {}

    def start(self, request: dict[str, Any]) -> None:
        """Hand an episode to the cluster, which plays it when a CPU is free."""
        task = self._play.remote(request, secret_fingerprint(request["settings"]["secret"]))
        self._running[task] = request

    def finished(self) -> list[Result]:
        """Results of episodes that have ended."""
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_WAIT_SECONDS)
        return [self._result(task, self._running.pop(task)) for task in ended]

    def close(self) -> None:
        """Cancel all tasks that still run, at first without force, so that episodes end in order."""
        rest = list(self._running)
        for force in (False, True):
            for task in rest:
                self._ray.cancel(task, force=force)
            if rest:
                _, rest = self._ray.wait(rest, num_returns=len(rest), timeout=2 * END_SECONDS)
        if self._mine:
            self._ray.shutdown()

    def _result(self, task: Any, request: dict[str, Any]) -> Result:
        try:
            result: Result = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            result = left_behind(request, f"Ray lost the episode: {str(error).splitlines()[0]}")
        return result


def _connect(ray: Any, address: str | None) -> None:
    options = {"address": address} if address else {"address": "local", "include_dashboard": False}
    try:
        _check_reachable(address or "")
        ray.init(logging_level="WARNING", log_to_driver=False, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise RunError(
            f"there is no Ray cluster at {address or 'this machine'}: {str(error).splitlines()[0]}; "
            "start one by `ray start --head`, or leave the address out to have one started here"
        ) from None


def _check_reachable(address: str) -> None:
    """Fail at once if nothing listens at an address; Ray would keep trying for many minutes."""
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    if parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), timeout=_CONNECT_SECONDS).close()


def _play_on_node(request: dict[str, Any], fingerprint: str) -> Result:
    """Play an episode on the node that this runs on."""
    folder = Path(request["folder"])
    if not (folder.parents[1] / PLAN).exists():
        return _refuse(
            request, f"does not see {folder.parents[1]}; put the run on a file system that all share"
        )
    if secret_fingerprint(request["settings"]["secret"]) != fingerprint:
        return _refuse(request, "has another secret, so its instances would differ; pass the run a secret")
    node, process = os.getppid(), EpisodeProcess(request)
    try:
        # Ray takes half a minute to end the tasks of a node whose own process died.
        while not process.ended and os.getppid() == node:
            time.sleep(POLL_SECONDS)
    finally:  # cancelled: Ray raises KeyboardInterrupt above
        process.end()
    return process.result()


def _refuse(request: dict[str, Any], problem: str) -> Result:
    return left_behind(request, f"the node {socket.gethostname()} {problem}")
