"""One episode's process: started, watched, ended, wherever the executor put it.

Both executors go through this file, so an episode is the same to the one as to the other: the same
folder, log and result, and the same end when whoever started it is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from mlrcbench.runs.plan import EPISODES, Assignment, Plan
from mlrcbench.runs.results import RESULT, Result, read_result

END_SECONDS = 10.0


def request_for(root: Path, plan: Plan, assignment: Assignment, secret: str | None) -> dict[str, Any]:
    """What the process is told: all that an episode is, as JSON types."""
    return {
        "assignment": asdict(assignment),
        "folder": str(root / EPISODES / assignment.name),
        "tier": plan.tier,
        "sandbox": plan.sandbox,
        "secret": secret,
        "budget": dict(plan.budget),
        "llm": dict(plan.llm),
    }


def left_behind(request: dict[str, Any], reason: str) -> Result:
    """The result that an episode wrote before its end; if there is none, its infrastructure failed."""
    folder = Path(request["folder"])
    found = read_result(folder)
    return found or Result(Assignment(**request["assignment"]), "infrastructure failed", reason, folder)


class EpisodeProcess:
    """An episode that is being played.

    Args:
        request: See `request_for`.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        folder = Path(request["folder"])
        folder.mkdir(exist_ok=True)
        (folder / RESULT).unlink(missing_ok=True)
        self._log = folder / "log.txt"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlrcbench.runs.worker"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches whoever started it, which ends it in order
            )
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(json.dumps(request).encode() + b"\n")
            self._stdin.flush()

    @property
    def ended(self) -> bool:
        """Whether the process is over."""
        return self._process.poll() is not None

    def result(self) -> Result:
        """What a process that has ended left; if nothing, it was killed or crashed."""
        self._stdin.close()
        status = self._process.returncode
        return left_behind(
            self._request, f"the episode's process ended with status {status}; see {self._log}"
        )

    def end(self) -> None:
        """Closing its input ends it, and its supervisors; force is for one that does not listen.

        Nothing is done to one that has ended.
        """
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
