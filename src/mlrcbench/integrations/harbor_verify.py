"""A Harbor task's verifier: copied into the task as `tests/verify.py`, and run there as root.

    python3 -I verify.py WORKSPACE LOGS

It ends the processes that the agent left running, copies the workspace, restores protected files, runs
the entry point on the test inputs as the agent's user, copies the declared artefacts out, and scores
them. Agent code runs only as that user, who cannot read this folder; this script imports none of it.
`LOGS/reward.json` gets `reward`, `improvement`, `valid`, and for a valid submission `value`; a reward that
the agent wrote there is moved away.

Every file of the agent is opened by its name in an open folder, never through a link, and checked after it
was opened. Whatever the agent's files and processes make impossible is an invalid submission. A failure of
anything else ends this script without a reward.

What it does not guarantee: where a harness runs it in the agent's own container, against the task's
`environment_mode = "separate"`, an agent that works as root there, against its `user = "agent"`, can change
the interpreter itself. Run by an ordinary user, which is for trying out a task, it protects no answers.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import importlib
import json
import os
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_SPARE_USER = 64_321  # runs the entry point of a workspace that belongs to root; no service has this number
_RESERVED = ("data", "inputs", "artefacts")
_MAX_DEPTH = 64
_CHUNK = 1 << 20
_SWEEP_SECONDS = 60.0
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def main(tests: Path, workspace: Path, logs: Path) -> None:
    """Verify a workspace, and write its reward; see above."""
    settings = json.loads((tests / "verify.json").read_text("utf-8"))
    user = (workspace.stat().st_uid or _SPARE_USER) if os.geteuid() == 0 else None
    scratch = Path(tempfile.mkdtemp(prefix="verify-"))
    scratch.chmod(0o711)
    try:
        reward, problem = _judge(tests, workspace, scratch, logs, settings, user)
        _clear(logs)
        with os.fdopen(os.open(logs / "reward.json", _NEW, 0o644), "w", encoding="utf-8") as file:
            json.dump(reward, file)
        print(f"no score: {problem!a}" if problem else f"scored: {reward}")
    finally:
        subprocess.run(["rm", "--recursive", "--force", str(scratch)], check=False)  # folders may nest deep


class _NoScoreError(Exception):
    """The agent's work cannot be scored; the text says why."""


def _judge(
    tests: Path, workspace: Path, scratch: Path, logs: Path, settings: dict[str, Any], user: int | None
) -> tuple[dict[str, float], str]:
    """The reward's numbers, and why the value is missing."""
    sys.path.insert(0, str(tests))
    artefacts = importlib.import_module("mlrcbench.artefacts")
    errors = importlib.import_module("mlrcbench.errors")
    fresh, collected = scratch / "workspace", scratch / "collected"
    try:
        _end_processes(user)
        _clear(logs)
        _lay_out(tests, fresh, settings)
        _add_work(workspace, fresh, settings)
        _run(fresh, settings, user)
        specs = [artefacts.ArtefactSpec(*spec) for spec in settings["artefacts"]]
        artefacts.collect(fresh / "artefacts", collected, specs)
        score = importlib.import_module("scorer").score(collected, tests / "answers")
    except (_NoScoreError, errors.SubmissionError) as error:
        return {"reward": 0.0, "improvement": 0.0, "valid": 0}, str(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return {"reward": 0.0, "improvement": 0.0, "valid": 0}, "the container's disk is full"
    if score.value is None:
        return {"reward": 0.0, "improvement": 0.0, "valid": 0}, str(score.reason)
    gain = (score.value - settings["baseline"]) / (settings["target"] - settings["baseline"])
    return {"reward": gain, "improvement": gain, "valid": 1, "value": score.value}, ""


def _clear(logs: Path) -> None:
    """Move away what the agent put where rewards are read, whatever kind of file it is."""
    if logs.is_symlink() or (logs.exists() and not logs.is_dir()):
        logs.unlink()
    logs.mkdir(parents=True, exist_ok=True)
    for name in os.listdir(logs):
        if name.startswith("reward"):
            (logs / name).rename(logs / f"left-{secrets.token_hex(8)}")


def _lay_out(tests: Path, fresh: Path, settings: dict[str, Any]) -> None:
    """Copy the protected files."""
    for name, root in (("starter", fresh), ("data", fresh / "data"), ("inputs", fresh / "inputs")):
        for source in sorted((tests / name).rglob("*")):
            path = source.relative_to(tests / name)
            if source.is_file() and not (name == "starter" and _is_editable(path, settings)):
                target = root / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
                target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
    (fresh / "artefacts").mkdir(parents=True)


def _is_editable(path: Path, settings: dict[str, Any]) -> bool:
    return any(fnmatch.fnmatchcase(path.as_posix(), glob) for glob in settings["editable"])


def _add_work(workspace: Path, fresh: Path, settings: dict[str, Any]) -> None:
    """Add the agent's regular files whose paths are still free.

    Raises:
        _NoScoreError: There are too many, or they cannot be read.
    """
    source, target = os.open(workspace, _FOLDER), os.open(fresh, _FOLDER)
    try:
        _Copy(settings).folder(source, target, _RESERVED)
    except OSError as error:
        raise _NoScoreError(f"the workspace cannot be copied: {error.strerror}") from error
    finally:
        os.close(source)
        os.close(target)


class _Copy:
    """A copy of an agent's tree that never follows a link, and is bounded.

    Args:
        settings: Which paths are carried, the bytes of all these files together, and the number of files,
            folders and everything else together.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._carried = settings["carried"]
        self._bytes = settings["workspace_bytes"]
        self._entries = settings["workspace_entries"]

    def folder(self, source: int, target: int, skipped: tuple[str, ...] = (), base: str = "") -> None:
        """Copy the content of an open folder into another one, in which existing files stay."""
        if base.count("/") > _MAX_DEPTH:
            raise _NoScoreError(f"the workspace has more than {_MAX_DEPTH} folders within each other")
        with os.scandir(source) as entries:
            for entry in entries:
                self._entries -= 1
                if self._entries < 0:
                    raise _NoScoreError("the workspace has too many files and folders")
                if entry.name == "__pycache__" or entry.name in skipped:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    self._folder(entry.name, source, target, f"{base}{entry.name}/")
                elif entry.is_file(follow_symlinks=False) and self._is_carried(f"{base}{entry.name}"):
                    self._file(entry.name, source, target)

    def _is_carried(self, path: str) -> bool:
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in self._carried)

    def _folder(self, name: str, source: int, target: int, base: str) -> None:
        inner_source = os.open(name, _FOLDER, dir_fd=source)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=target)
            try:
                inner_target = os.open(name, _FOLDER, dir_fd=target)
            except NotADirectoryError:  # a protected file has this name
                return
            try:
                self.folder(inner_source, inner_target, base=base)
            finally:
                os.close(inner_target)
        finally:
            os.close(inner_source)

    def _file(self, name: str, source: int, target: int) -> None:
        reader = os.open(name, _FILE, dir_fd=source)
        try:
            info = os.fstat(reader)
            if not stat.S_ISREG(info.st_mode):
                return
            try:
                writer = os.open(name, _NEW, 0o644, dir_fd=target)
            except FileExistsError:
                return
            with os.fdopen(writer, "wb") as copy:
                self._bytes -= info.st_size
                if self._bytes < 0:
                    raise _NoScoreError("the files that an evaluation takes are too large together")
                os.fchmod(writer, 0o755 if info.st_mode & 0o100 else 0o644)
                remaining = info.st_size
                while remaining > 0 and (chunk := os.read(reader, min(_CHUNK, remaining))):
                    copy.write(chunk)
                    remaining -= len(chunk)
        finally:
            os.close(reader)


def _run(fresh: Path, settings: dict[str, Any], user: int | None) -> None:
    """Run the entry point as the agent's user, with few environment variables."""
    if user is not None:
        for _, _, names, folder in os.fwalk(fresh):
            os.fchown(folder, user, user)
            for name in names:
                os.chown(name, user, user, dir_fd=folder, follow_symlinks=False)
    threads = {f"{name}_NUM_THREADS": str(settings["threads"]) for name in ("OMP", "MKL", "OPENBLAS")}
    variables = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(fresh), "LANG": "C.UTF-8"}
    identity: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    with subprocess.Popen(
        ["bash", "-c", settings["entry_point"]],
        cwd=fresh,
        env={**variables, **threads, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        **identity,
    ) as process:
        try:
            status = process.wait(settings["seconds"])
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            _end_processes(user)
    if status is None:
        raise _NoScoreError(f"{settings['entry_point']!r} ran longer than {settings['seconds']:g} s")
    if status:
        raise _NoScoreError(f"{settings['entry_point']!r} ended with exit status {status}")


def _end_processes(user: int | None) -> None:
    """Kill the processes of a user, and wait until none of their threads is left; None stands for nobody.

    Raises:
        _NoScoreError: Some cannot be killed.
    """
    deadline = time.monotonic() + _SWEEP_SECONDS
    while user is not None:
        all_were_killed = _kill_all(user)
        pids = _processes(user)
        if all_were_killed and not pids:
            return
        if time.monotonic() > deadline:
            raise _NoScoreError(f"{len(pids)} processes cannot be ended")
        for number in (signal.SIGSTOP, signal.SIGKILL):  # they may have killed the one that was to kill them
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        time.sleep(0.005)


def _kill_all(user: int) -> bool:
    """Kill all processes of a user at once, so that none can fork meanwhile, from a process of that user.

    Returns:
        Whether that process could do it.
    """
    try:
        pid = os.fork()
    except OSError:  # the user's processes leave room for no other
        return False
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _processes(user: int) -> list[int]:
    """The processes of a user that are not over; some that are over may still be listed by the system."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [pid for pid in pids if _is_alive(pid, user)]


def _is_alive(pid: int, user: int) -> bool:
    """Whether a process of a user has a thread that runs, even if its main thread has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
    except OSError:
        return False
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    ended = fields["State"].split()[0] in "ZX" and int(fields["Threads"]) <= 1
    return str(user) in fields["Uid"].split() and not ended


if __name__ == "__main__":
    main(Path(__file__).resolve().parent, Path(sys.argv[1]), Path(sys.argv[2]))
