"""Jobs: an episode's long commands, and what an agent reads about them.

What an agent reads depends, as far as possible, only on what the job prints: a wait for the job's end
shows all output since the last match, a wait for a match shows it up to the end of the line that
matches, and the next wait shows the rest. Output that depends on the moment (what a job has printed
when the time of a wait is over, or when the job is killed) is an *aside*, which a replay does not
compare.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from mlrcbench.errors import ActionError
from mlrcbench.protocol import wording
from mlrcbench.protocol.actions import KillJob, StartJob, WaitJob
from mlrcbench.protocol.observation import join_output
from mlrcbench.sandbox import MAX_JOBS, ExecResult, Limits, Sandbox
from mlrcbench.sandbox.contract import Job, Until, Waited

MAX_LOG_BYTES = 8 << 20
MIN_LOG_BYTES = 64 << 10
QUIET_SECONDS = 10.0
_SHOWN_BYTES = 16 << 10


@dataclass(slots=True)
class _Entry:
    """One job.

    Attributes:
        job: The command in its sandbox.
        log: The file that receives its output.
        matched: Bytes of the log up to the end of the last match.
        seen: Bytes of the log that were shown.
        result: The result, once the job has ended.
        ended_by: What ended it, for example "an evaluation"; empty if nothing but the agent did.
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
        sandbox: The sandbox in which they run.
        folder: The folder of their logs.
        shown_as: Name of that folder in the workspace.
    """

    def __init__(self, sandbox: Sandbox, folder: Path, shown_as: str) -> None:
        self._sandbox = sandbox
        self._folder = folder
        self._shown_as = shown_as
        self._entries: dict[int, _Entry] = {}
        # The folder still has the logs of jobs from before a restore; their numbers are not used again.
        self._earlier = sum(1 for _ in folder.glob("job-*.txt"))

    @property
    def running(self) -> list[int]:
        """Ids of the jobs that have not ended."""
        for entry in self._entries.values():
            if entry.result is None:
                entry.result = entry.job.wait(Until(), 0.0).result
        return [number for number, entry in self._entries.items() if entry.result is None]

    @property
    def logs(self) -> list[Path]:
        """The logs of all jobs."""
        return [entry.log for entry in self._entries.values()]

    @property
    def log_bytes(self) -> int:
        """Bytes that the logs take; a job that runs counts with the largest size that its log can reach."""
        return sum(
            MAX_LOG_BYTES if entry.result is None else entry.log.stat().st_size
            for entry in self._entries.values()
        )

    def start(self, action: StartJob, limits: Limits) -> str:
        """Start a job; returns the text for the agent.

        Args:
            action: The command.
            limits: Limits of a command, with the job's seconds, and with the bytes left for its log.

        Raises:
            ActionError: Too many jobs are running, or this sandbox cannot run jobs.
        """
        if not self._sandbox.runs_jobs:
            raise ActionError(wording.NO_JOBS_HERE)
        running = self.running
        if len(running) >= MAX_JOBS:
            raise ActionError(wording.too_many_jobs(running, MAX_JOBS))
        if limits.log_bytes < MIN_LOG_BYTES:
            raise ActionError(wording.OUTPUTS_ARE_FULL)
        limits = dataclasses.replace(limits, log_bytes=min(limits.log_bytes, MAX_LOG_BYTES))
        number = self._earlier + len(self._entries) + 1
        log = self._folder / f"job-{number}.txt"
        self._entries[number] = _Entry(self._sandbox.start_job(action.command, limits, log=log), log)
        return wording.job_started(number, f"{self._shown_as}/{log.name}")

    def wait(self, action: WaitJob, seconds: float) -> tuple[str, str]:
        """Wait for a job.

        Args:
            action: Which job, and what to wait for.
            seconds: The longest time to wait.

        Returns:
            A text that the job's output determines, and one that depends on the moment.

        Raises:
            ActionError: The job does not exist, or the pattern cannot be used.
        """
        entry = self._entry(action.id)
        if action.until == "match" and action.pattern is None:
            raise ActionError(wording.PATTERN_IS_MISSING)
        waited = self._wait(entry, action, seconds)
        match waited.met:
            case "error":
                raise ActionError(wording.job_pattern_failed(action.id, waited.why))
            case "match":
                start, entry.matched = entry.matched, waited.end
                entry.seen = max(entry.seen, waited.end)
                lines = self._window(entry, start, waited.end)
                return _lines(lines, wording.job_matched(action.id)), ""
            case "exit":
                return self._ended(action.id, entry), ""
            case "quiet":
                return wording.job_quiet(action.id, _quiet_seconds(action)), self._unseen(entry)
            case "time":
                return wording.job_still_runs(action.id, seconds), self._unseen(entry)

    def kill(self, action: KillJob) -> tuple[str, str]:
        """End a job; returns texts as `wait` does.

        Raises:
            ActionError: The job does not exist.
        """
        entry = self._entry(action.id)
        self._end(entry, "")
        return wording.job_killed(action.id), _lines(self._unseen(entry), f"[{_ending(entry)}]")

    def end(self, by: str) -> str:
        """End all jobs that are running.

        Args:
            by: What ends them, for example "an evaluation".

        Returns:
            A line that names the jobs; empty if none was running.
        """
        running = self.running
        for number in running:
            self._end(self._entries[number], by)
        return wording.jobs_ended(by, running)

    def _wait(self, entry: _Entry, action: WaitJob, seconds: float) -> Waited:
        """Wait for a job; if it has ended, search its log for a match instead."""
        pattern = action.pattern or ""
        kinds: dict[str, Until] = {
            "exit": Until(),
            "match": Until("match", pattern, start=entry.matched),
            "quiet": Until("quiet", quiet=_quiet_seconds(action)),
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
            raise ActionError(wording.unknown_job(number, list(self._entries)))
        return self._entries[number]

    def _ended(self, number: int, entry: _Entry) -> str:
        """The output of an ended job since the last match, and how it ended."""
        size = entry.log.stat().st_size
        entry.seen = size
        output = self._window(entry, entry.matched, size)
        assert entry.result is not None
        total = len(entry.result.head) + entry.result.omitted + len(entry.result.tail)
        note = wording.output_was_cut("job", total, size)
        return _lines(output, note, wording.job_ended(number, _ending(entry)))

    def _unseen(self, entry: _Entry) -> str:
        """The output that was not shown so far."""
        start, entry.seen = entry.seen, entry.log.stat().st_size
        return self._window(entry, start, entry.seen)

    def _window(self, entry: _Entry, start: int, end: int) -> str:
        """A part of a log as text; of a long part only the head and the tail."""
        half, shown_as = _SHOWN_BYTES // 2, f"{self._shown_as}/{entry.log.name}"
        with entry.log.open("rb") as file:
            if end - start <= _SHOWN_BYTES:
                return join_output(os.pread(file.fileno(), end - start, start), b"", 0, shown_as)
            head, tail = os.pread(file.fileno(), half, start), os.pread(file.fileno(), half, end - half)
            return join_output(head, tail, end - start - 2 * half, shown_as)


def _quiet_seconds(action: WaitJob) -> float:
    return action.seconds or QUIET_SECONDS


def _ending(entry: _Entry) -> str:
    assert entry.result is not None
    return wording.job_ending(entry.result, entry.ended_by)


def _lines(*parts: str) -> str:
    """The parts that are not empty, each beginning on a line of its own."""
    return "\n".join(part for part in parts if part)
