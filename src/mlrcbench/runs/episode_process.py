"""The process of one episode: how it is started, watched and ended.

Both executors use this file, so episodes are the same under both: the same folder, log and result, and
the same end when the program that started them is gone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from mlrcbench.agents.python_object import Origin
from mlrcbench.runs.plan import EPISODES, Assignment, Plan
from mlrcbench.runs.results import Result, failed_result, read_result, write_result
from mlrcbench.sandbox.fork_client import helper_command

END_SECONDS = 15.0  # more than a caretaker takes to end what an episode has left
_log = logging.getLogger(__name__)


def request_for(root: Path, plan: Plan, assignment: Assignment, origin: Origin | None) -> dict[str, Any]:
    """The request to the process: everything that defines an episode, as JSON types."""
    return {
        "assignment": asdict(assignment),
        "folder": str(root / EPISODES / assignment.name),
        "settings": {**plan.settings.to_json(), "secret": plan.settings.secret},
        "llm": dict(plan.llm),
        "origin": None if origin is None else asdict(origin),
    }


def left_behind(request: dict[str, Any], reason: str) -> Result:
    """The result that an episode wrote before its end; without one, its infrastructure failed.

    However the episode's process ended, the result of a failure has what the record holds, and is written
    to the episode's folder.
    """
    folder = Path(request["folder"])
    result = read_result(folder)
    if result is None:
        assignment = Assignment(**request["assignment"])
        result = failed_result(assignment, folder, reason)
        try:
            write_result(result)
        except OSError as error:
            _log.warning("the result of %s cannot be written: %s", assignment.name, error.strerror)
        else:
            result = read_result(folder) or result  # with its earlier attempts
    return result


class EpisodeProcess:
    """An episode that is being played.

    Args:
        request: See `request_for`; `begin_attempt` has prepared its folder.

    Raises:
        OSError: The process cannot be started.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        self._log = Path(request["folder"]) / "log.txt"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                helper_command("caretaker", str(os.getpid()), sys.executable, "-m", "mlrcbench.runs.worker"),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches only the parent, which ends it in order
            )
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(json.dumps(request).encode() + b"\n")
            self._stdin.flush()

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def result(self) -> Result:
        """The result of a process that has ended; without one it was killed or crashed."""
        with contextlib.suppress(OSError):
            self._stdin.close()
        status = self._process.returncode
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return left_behind(self._request, f"the episode's process {how}; see {self._log}")

    def end(self) -> None:
        """End the process and its supervisors by closing its input, or by force if it does not react.

        A process that has ended stays as it is.
        """
        with contextlib.suppress(OSError):
            self._stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin
