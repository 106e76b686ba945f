"""The other side of `trusted.py`: what runs in the trusted child process.

It is started for every build and every score, so it imports no more than it needs.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlrcbench.artefacts.player import Player, PlayLimits
from mlrcbench.errors import DataError, ScoringError, SubmissionError, TooSlowError
from mlrcbench.score import Score

_PATHS = ("raw", "public", "private", "artefacts", "answers", "transcript")
_PR_SET_PDEATHSIG = 1
# A reason may quote what agent code wrote; the answer must fit into a pipe that nobody reads yet.
_MAX_REASON_CHARS = 2_000


def main(descriptor: int) -> None:
    """The child's side: read the request, call the function, write the answer."""
    request = json.load(sys.stdin)
    _end_with(request["parent"])
    path = Path(request["module"])
    arguments = {key: Path(value) if key in _PATHS else value for key, value in request["arguments"].items()}
    answer: dict[str, Any]
    try:
        function = getattr(_load(path), request["function"])
        if request["channel"] is not None:
            function = functools.partial(_play, function, request["channel"])
        value = function(**arguments)
        answer = {"value": value.to_json() if isinstance(value, Score) else value}
    except TooSlowError as error:
        answer = {"late": str(error)[:_MAX_REASON_CHARS]}
    except SubmissionError as error:
        answer = {"refused": str(error)[:_MAX_REASON_CHARS]}
    except DataError as error:
        if request["function"] != "convert":
            raise
        answer = {"unusable": str(error)[:_MAX_REASON_CHARS]}
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None
    with os.fdopen(descriptor, "w") as file:
        json.dump(answer, file)


def _play(
    play: Callable[[Player, Path], None],
    channel: tuple[int, int],
    *,
    answers: Path,
    transcript: Path,
    limits: dict[str, Any],
    seconds: float,
) -> float:
    """Let an oracle play with the agent at the other ends of a channel; returns the agent's seconds."""
    with Player(*channel, limits=PlayLimits(**limits), seconds=seconds, transcript=transcript) as agent:
        play(agent, answers)
    return agent.spent


def _end_with(parent: int) -> None:
    """Ask the kernel to end this process with its parent, however that ends."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            raise SystemExit(1)


def _load(path: Path) -> Any:
    """Load a module from its file, whatever the import path is."""
    spec = importlib.util.spec_from_file_location(f"mlrcbench_competition_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ScoringError(f"{path} is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
