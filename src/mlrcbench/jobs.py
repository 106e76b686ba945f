"""Jobs: an episode's long commands, and what an agent is told of them.

What is told of a job is, as far as it can be, a function of what the job prints: a wait for its
end shows all output since the last match, a wait for a match shows it up to the end of the line
that matches, and what follows is left for the next. Whatever depends on when one looked (what a
job has printed when a wait runs out, or when it is killed) is an *aside*, which a replay does
not compare.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from mlrcbench.actions import KillJob, StartJob, WaitJob
from mlrcbench.errors import ActionError
from mlrcbench.observation import join_output
from mlrcbench.sandbox import MAX_JOBS, ExecResult, Limits, Sandbox
from mlrcbench.sandbox.job import Job, Until, Waited

MAX_LOG_BYTES = 8 << 20
MIN_LOG_BYTES = 64 << 10
QUIET_SECONDS = 10.0
_SHOWN_BYTES = 16 << 10
_ENDINGS = {
    "timeout": "stopped: it reached its time limit",
    "memory": "stopped: it reached the memory limit",
    "disk": "stopped: it reached the limit on the size of the workspace",
    "processes": "stopped: it reached the limit on processes",
    "killed": "killed",
}


@dataclass(slots=True)
class _Entry:
    """One job.

    Attributes:
        job: What runs.
        log: Its output.
        seconds: Its time limit.
        matched: Bytes of the log up to the end of the last match.
        seen: Bytes of the log that were shown.
        result: What it did, once it has ended.
        ended_by: Why it was ended, if the agent did not do it: "an evaluation".
    """

    job: Job
    log: Path
    matched: int = 0
    seen: int = 0
    result: ExecResult | None = None
    ended_by: str = ""


class Jobs:
    """The jobs of one episode.

    Args:
        sandbox: Where they run.
        folder: Where their logs go.
        shown_as: Name of that folder in the workspace.
    """

    def __init__(self, sandbox: Sandbox, folder: Path, shown_as: str) -> None:
        self._sandbox = sandbox
        self._folder = folder
        self._shown_as = shown_as
        self._entries: dict[int, _Entry] = {}
        # Logs of jobs from before a restore lie there still; their numbers are not given again.
        self._earlier = sum(1 for _ in folder.glob("job-*.txt"))

    @property
    def running(self) -> list[int]:
        """Ids of those that have not ended."""
        for entry in self._entries.values():
            if entry.result is None:
                entry.result = entry.job.wait(Until(), 0.0).result
        return [number for number, entry in self._entries.items() if entry.result is None]

    @property
    def logs(self) -> list[Path]:
        """Their outputs."""
        return [entry.log for entry in self._entries.values()]

    @property
    def log_bytes(self) -> int:
        """What their logs take, or may come to take while they run."""
        return sum(
            MAX_LOG_BYTES if entry.result is None else entry.log.stat().st_size
            for entry in self._entries.values()
        )

    def start(self, action: StartJob, limits: Limits) -> str:
        """Start one.

        Args:
            action: What to run.
            limits: Of a command, with the job's own seconds, and what is left for its log.

        Raises:
            ActionError: There are too many already, or this sandbox runs none.
        """
        if not self._sandbox.runs_jobs:
            raise ActionError("this environment's sandbox runs no jobs; use run")
        running = self.running
        if len(running) >= MAX_JOBS:
            names = ", ".join(str(number) for number in running)
            raise ActionError(
                f"jobs {names} are running, and {MAX_JOBS} is the most; wait for one or kill one"
            )
        if limits.log_bytes < MIN_LOG_BYTES:
            raise ActionError(
                "the outputs of this episode are full; redirect long ones into files of your own"
            )
        limits = dataclasses.replace(limits, log_bytes=min(limits.log_bytes, MAX_LOG_BYTES))
        number = self._earlier + len(self._entries) + 1
        log = self._folder / f"job-{number}.txt"
        self._entries[number] = _Entry(self._sandbox.start_job(action.command, limits, log=log), log)
        return f"job {number} has started; its output goes to {self._shown_as}/{log.name}"

    def wait(self, action: WaitJob, seconds: float) -> tuple[str, str]:
        """Wait for one.

        Args:
            action: For which, and until when.
            seconds: How long at most.

        Returns:
            What the job's output determines, and what depends on the moment.

        Raises:
            ActionError: There is no such job, or the pattern cannot be used.
        """
        entry = self._entry(action.id)
        if action.until == "match" and action.pattern is None:
            raise ActionError("wait_job until 'match' needs a pattern, for example 'epoch 10'")
        waited = self._wait(entry, action, seconds)
        name = f"job {action.id}"
        match waited.met:
            case "error":
                raise ActionError(f"{waited.why}; {name} is not affected")
            case "match":
                start, entry.matched = entry.matched, waited.end
                entry.seen = max(entry.seen, waited.end)
                return f"{_window(entry.log, start, waited.end)}\n[{name}: this line matches]", ""
            case "exit":
                return self._told_end(action.id, entry), ""
            case "quiet":
                return f"[{name} was quiet for {_quiet(action):g} s]", self._news(entry)
            case "time":
                return f"[{name} goes on after {seconds:.0f} s]", self._news(entry)

    def kill(self, action: KillJob) -> tuple[str, str]:
        """End one; returns as `wait` does.

        Raises:
            ActionError: There is no such job.
        """
        entry = self._entry(action.id)
        self._end(entry, "")
        return f"[job {action.id} is ended]", f"{self._news(entry)}\n[{_ending(entry)}]".lstrip()

    def end(self, by: str) -> str:
        """End all that run.

        Args:
            by: Why, for example "an evaluation".

        Returns:
            A line that names them; empty if none ran.
        """
        running = self.running
        for number in running:
            self._end(self._entries[number], by)
        names = ", ".join(f"job {number}" for number in running)
        return f"[{by} has ended {names}]" if running else ""

    def _wait(self, entry: _Entry, action: WaitJob, seconds: float) -> Waited:
        """Wait, and search what an ended job has left."""
        pattern = action.pattern or ""
        kinds: dict[str, Until] = {
            "exit": Until(),
            "match": Until("match", pattern, start=entry.matched),
            "quiet": Until("quiet", quiet=_quiet(action)),
        }
        until = kinds[action.until]
        waited = Waited("exit") if entry.result is not None else entry.job.wait(until, seconds)
        entry.result = waited.result or entry.result
        if waited.met == "exit" and until.kind == "match":
            return self._sandbox.search(entry.log, until)
        return waited

    def _end(self, entry: _Entry, by: str) -> None:
        if entry.result is None:
            entry.result = entry.job.kill()
            entry.ended_by = by if entry.result.ending == "killed" else ""

    def _entry(self, number: int) -> _Entry:
        if number not in self._entries:
            known = ", ".join(map(str, self._entries)) or "none; start_job starts one"
            raise ActionError(f"there is no job {number}. Known: {known}")
        return self._entries[number]

    def _told_end(self, number: int, entry: _Entry) -> str:
        """How a job ended, with all output since the last match."""
        size = entry.log.stat().st_size
        entry.seen = size
        output = _window(entry.log, entry.matched, size)
        assert entry.result is not None
        total = len(entry.result.head) + entry.result.omitted + len(entry.result.tail)
        lost = f"\n[of {total:,} bytes the first {size:,} were kept]" if total > size else ""
        return f"{output}{lost}\n[job {number}: {_ending(entry)}]".lstrip()

    def _news(self, entry: _Entry) -> str:
        """Output that was not shown yet."""
        start, entry.seen = entry.seen, entry.log.stat().st_size
        return _window(entry.log, start, entry.seen)


def _quiet(action: WaitJob) -> float:
    return action.seconds or QUIET_SECONDS


def _ending(entry: _Entry) -> str:
    result = entry.result
    assert result is not None
    if result.ending == "exited":
        return f"exit status {result.exit_status}"
    return f"ended by {entry.ended_by}" if entry.ended_by else _ENDINGS[result.ending]


def _window(log: Path, start: int, end: int) -> str:
    """A part of a log as text; of a long one head and tail."""
    half = _SHOWN_BYTES // 2
    with log.open("rb") as file:
        if end - start <= _SHOWN_BYTES:
            text = join_output(os.pread(file.fileno(), end - start, start), b"", 0, None)
        else:
            head, tail = os.pread(file.fileno(), half, start), os.pread(file.fileno(), half, end - half)
            text = join_output(head, tail, end - start - 2 * half, None)
    return text.rstrip()
