"""A Harbor task's verifier: copied into the task as `tests/verify.py`, and run there as root.

    python3 -I verify.py WORKSPACE LOGS

It ends what the agent left running, copies the workspace, puts back whatever is protected, runs
the entry point on the test inputs as the agent's user, copies the declared artefacts out, and
scores them. Agent code runs only as that user, who cannot read this folder; nothing of it is
imported here. `LOGS/reward.json` gets `reward`, `improvement`, `valid`, and `value` if there is one.

What it does not uphold: an agent that works as root in the container can change the interpreter
itself. Tasks say `user = "agent"`; a harness that ignores it gives that up, and so does running
this file as an ordinary user, which is for trying a task out.
"""

from __future__ import annotations

import contextlib
import fnmatch
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_NOBODY = 65534
_RESERVED = ("data", "inputs", "artefacts")
_MAX_FILES = 20_000


def main(tests: Path, workspace: Path, logs: Path) -> None:
    """Verify a workspace; see above."""
    told = json.loads((tests / "verify.json").read_text("utf-8"))
    owner = workspace.stat().st_uid
    user = (owner or _NOBODY) if os.geteuid() == 0 else None
    if user is not None and owner:
        _end_processes(owner)
    with tempfile.TemporaryDirectory(prefix="verify-", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        scratch.chmod(0o711)
        reward, words = _judge(tests, workspace, scratch, told, user)
    logs.mkdir(parents=True, exist_ok=True)
    (logs / "reward.json").write_text(json.dumps(reward), "utf-8")
    print(words or f"scored: {reward}")


def _judge(
    tests: Path, workspace: Path, scratch: Path, told: dict[str, Any], user: int | None
) -> tuple[dict[str, float], str]:
    """The reward's numbers; and why there is no value."""
    sys.path.insert(0, str(tests))
    artefacts = importlib.import_module("mlrcbench.artefacts")
    errors = importlib.import_module("mlrcbench.errors")
    fresh, kept = scratch / "workspace", scratch / "kept"
    try:
        _lay_out(tests, workspace, fresh, told)
        _run(fresh, told, user)
        specs = [artefacts.ArtefactSpec(*spec) for spec in told["artefacts"]]
        artefacts.collect(fresh / "artefacts", kept, specs)
        score = importlib.import_module("scorer").score(kept, tests / "answers")
    except (_NoScoreError, errors.SubmissionError) as error:
        return {"reward": 0.0, "improvement": 0.0, "valid": 0}, f"no score: {error}"
    if score.value is None:
        return {"reward": 0.0, "improvement": 0.0, "valid": 0}, f"no score: {score.reason}"
    gain = (score.value - told["baseline"]) / (told["target"] - told["baseline"])
    return {"reward": gain, "improvement": gain, "valid": 1, "value": score.value}, ""


class _NoScoreError(Exception):
    """The agent's work cannot be scored; the text says why."""


def _lay_out(tests: Path, workspace: Path, fresh: Path, told: dict[str, Any]) -> None:
    """What is protected first; then the agent's plain files, where nothing is yet."""
    for name, root in (("starter", fresh), ("data", fresh / "data"), ("inputs", fresh / "inputs")):
        for source in sorted((tests / name).rglob("*")):
            path = source.relative_to(tests / name)
            if source.is_file() and not (name == "starter" and _is_editable(path, told)):
                _copy_file(source, root / path)
    (fresh / "artefacts").mkdir(parents=True)
    files = total = 0
    for folder, names, found in os.walk(workspace):
        place = fresh / Path(folder).relative_to(workspace)
        names[:] = [name for name in names if _may_enter(Path(folder, name), place / name, workspace)]
        for name in found:
            source = Path(folder, name)
            if source.is_symlink() or not source.is_file() or (place / name).exists():
                continue
            files, total = files + 1, total + source.stat().st_size
            if files > _MAX_FILES or total > told["workspace_bytes"]:
                raise _NoScoreError("the workspace is too large")
            _copy_file(source, place / name)


def _is_editable(path: Path, told: dict[str, Any]) -> bool:
    return any(fnmatch.fnmatchcase(path.as_posix(), glob) for glob in told["editable"])


def _may_enter(folder: Path, place: Path, workspace: Path) -> bool:
    """Whether a folder of the workspace is carried over."""
    reserved = folder.parent == workspace and folder.name in _RESERVED
    return not (reserved or folder.name == "__pycache__" or folder.is_symlink() or place.is_file())


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
    target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)


def _run(fresh: Path, told: dict[str, Any], user: int | None) -> None:
    """The entry point, as the agent's user, in an environment of its own."""
    if user is not None:
        for path in (fresh, *fresh.rglob("*")):
            os.chown(path, user, user, follow_symlinks=False)
    threads = {f"{name}_NUM_THREADS": str(told["threads"]) for name in ("OMP", "MKL", "OPENBLAS")}
    kept = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(fresh), "LANG": "C.UTF-8"}
    identity: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    with subprocess.Popen(
        ["bash", "-c", told["entry_point"]],
        cwd=fresh,
        env={**kept, **threads, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        **identity,
    ) as process:
        try:
            status = process.wait(told["seconds"])
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if user is not None and user != _NOBODY:
                _end_processes(user)
    if status is None:
        raise _NoScoreError(f"{told['entry_point']!r} ran longer than {told['seconds']:g} s")
    if status:
        raise _NoScoreError(f"{told['entry_point']!r} ended with exit status {status}")


def _end_processes(user: int) -> None:
    """Kill what runs as a user, until nothing does."""
    while found := [pid for pid in _processes() if _owner(pid) == user]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _owner(pid: int) -> int | None:
    """Whom a process belongs to; None if it has ended, and waits for its parent at most."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return None if fields["State"].strip().startswith(("Z", "X")) else int(fields["Uid"].split()[0])


if __name__ == "__main__":
    main(Path(__file__).resolve().parent, Path(sys.argv[1]), Path(sys.argv[2]))
