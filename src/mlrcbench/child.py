"""A trusted child process: where a competition's `build`, `convert` and `score` run.

They run apart from the library's process so that it stays light (no torch), so that a crash
or a leak in them costs one call, and so that nothing but their files can influence the
result: no workspace on the import path, a clean environment, one thread, fixed hash seed.
Agent code is never imported here.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlrcbench.errors import DataError, ScoringError, SubmissionError
from mlrcbench.sandbox import environment
from mlrcbench.score import Score
from mlrcbench.scratch import scratch

_BOOT = "import sys; sys.path.append({root!r}); from mlrcbench.child import main; main({descriptor})"
_PATHS = ("raw", "public", "private", "artefacts", "answers")
_POLL_SECONDS = 0.2
_PR_SET_PDEATHSIG = 1
# A reason may quote what agent code wrote; the answer must fit into a pipe that nobody reads yet.
_MAX_REASON_CHARS = 2_000


class ChildError(Exception):
    """The child ended without an answer; the text holds the end of its output."""


def call(
    function: str,
    module: Path,
    arguments: Mapping[str, Any],
    *,
    seconds: float,
    threads: int = 1,
    gpu: bool = False,
    on_output: Callable[[str], None] | None = None,
) -> Any:
    """Call a function of a competition's module in a fresh process.

    Args:
        function: "build", "convert" or "score".
        module: The file that has it.
        arguments: JSON types.
        seconds: Wall time; then it is killed.
        threads: For numeric libraries.
        gpu: Whether it is told which GPU to use; see `sandbox.environment`.
        on_output: Called with the last line of its output, several times a second.

    Returns:
        What the function returned, as JSON types.

    Raises:
        SubmissionError: `score` refused the artefacts.
        DataError: `convert` cannot use the raw data.
        ChildError: It crashed, was killed, or ran out of time.
    """
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as answers, tempfile.TemporaryFile() as output:
        root = str(Path(__file__).parent.parent)
        request = json.dumps(
            {"function": function, "module": str(module), "arguments": dict(arguments), "parent": os.getpid()}
        )
        with scratch("child") as home:
            try:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-c", _BOOT.format(root=root, descriptor=write_end)],
                    cwd="/",
                    env=environment(home, threads, gpu=gpu),
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(write_end,),
                    start_new_session=True,
                )
            finally:
                os.close(write_end)
            timed_out = _wait(process, request, seconds, output.fileno(), on_output)
        answer = answers.read()
        if answer:
            return _unpack(json.loads(answer))
        ending = f"ran longer than {seconds:g} s" if timed_out else f"ended with status {process.returncode}"
        raise ChildError(f"{function} {ending}\n{_tail(output.fileno())}".rstrip())


def main(descriptor: int) -> None:
    """The child's side: read the request, call the function, write the answer."""
    request = json.load(sys.stdin)
    _end_with(request["parent"])
    path = Path(request["module"])
    arguments = {key: Path(value) if key in _PATHS else value for key, value in request["arguments"].items()}
    answer: dict[str, Any]
    try:
        value = getattr(_load(path), request["function"])(**arguments)
        answer = {"value": value.to_json() if isinstance(value, Score) else value}
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


def _end_with(parent: int) -> None:
    """Ask the kernel to end this process with its parent, however that ends."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            raise SystemExit(1)


def _load(path: Path) -> Any:
    """A module from its file, whatever the import path."""
    spec = importlib.util.spec_from_file_location(f"mlrcbench_competition_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ScoringError(f"{path} is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _wait(
    process: subprocess.Popen[bytes],
    request: str,
    seconds: float,
    output: int,
    on_output: Callable[[str], None] | None,
) -> bool:
    """Wait for the child; True if it had to be killed for its time."""
    deadline = time.monotonic() + seconds
    try:
        assert process.stdin is not None
        try:
            process.stdin.write(request.encode())
            process.stdin.close()
        except BrokenPipeError:
            pass
        while (left := deadline - time.monotonic()) > 0:
            try:
                process.wait(left if on_output is None else min(left, _POLL_SECONDS))
                return False
            except subprocess.TimeoutExpired:
                if on_output is not None:
                    on_output(_tail(output, 200).rstrip().rpartition("\n")[2])
        return True
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _tail(descriptor: int, size: int = 4_000) -> str:
    end = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, max(0, end - size)).decode("utf-8", errors="replace")


def _unpack(answer: Mapping[str, Any]) -> Any:
    if "refused" in answer:
        raise SubmissionError(answer["refused"])
    if "unusable" in answer:
        raise DataError(answer["unusable"])
    return answer["value"]
