"""Every sentence that an agent reads about its competition, commands, jobs and scores.

Two kinds of messages are written where the check is made: those about an action's form in `actions.py`,
and those about a path or a file's text in `storage/workspace.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlrcbench.catalog.card import Card, Tier
from mlrcbench.protocol import actions
from mlrcbench.protocol.observation import tree
from mlrcbench.sandbox import ExecResult
from mlrcbench.score import Score
from mlrcbench.text import percent

SUBMITTED = "submitted; the episode is over"
EPISODE_IS_OVER = "error: the episode is over; nothing more can be done in it"
NO_EPISODE = "error: no episode is running; begin one first"
NO_EVALUATIONS_LEFT = "no evaluations are left; continue with your own experiments, or submit"
SAME_FILES = "[these files were evaluated before; this is the result that they had]"
NO_JOBS_HERE = "this environment's sandbox cannot run jobs; use the action run instead"
OUTPUTS_ARE_FULL = "the space for this episode's outputs is full; redirect long outputs into workspace files"
PATTERN_IS_MISSING = "wait_job with until='match' needs a pattern, for example 'epoch 10'"

STANDARD_ERRORS = "± is one standard error"

RECORD_OF_EPISODE = "the episode's record, which the workspace does not show"
NO_GROWTH = "; files could not grow in this command, because the workspace was over its limit"

_LIMITS = {
    "timeout": "its time limit",
    "cpu": "the limit on CPU time",
    "memory": "the memory limit",
    "disk": "the limit on the size of the workspace",
    "processes": "the limit on processes",
}


def briefing(statement: str, files: Sequence[str], tier: Tier) -> str:
    """What an agent reads at the start: the statement, its files, its limits, its actions."""
    limits = tier.limits
    threads = f"{limits.threads} thread{'' if limits.threads == 1 else 's'} for numeric libraries"
    command = _duration(limits.command_cpu_seconds, limits.command_seconds)
    evaluation = _duration(limits.evaluation_cpu_seconds, limits.evaluation_seconds)
    bounds = (
        f"{command} for a command, {evaluation} for an evaluation, "
        f"{limits.memory_mb} MiB of memory, {limits.workspace_mb} MiB of files, {threads}, no network."
    )
    if tier.carried is not None:
        patterns = " and ".join(tier.carried.patterns)
        bounds += f" An evaluation takes {patterns} of your files, {tier.carried.max_bytes:,} bytes together."
    parts = (
        statement.rstrip(),
        f"## Files\n\n{tree(files)}",
        f"## Limits\n\n{bounds}",
        _actions_part(),
    )
    return "\n\n".join(parts)


def _duration(cpu_seconds: float, seconds: float) -> str:
    """A time limit: CPU time where it is limited, with the wall time that it may take on a busy machine."""
    if cpu_seconds == math.inf:
        return f"{seconds:g} s"
    return f"{cpu_seconds:g} s of CPU time ({seconds:g} s by the clock)"


def without_actions(briefing: str) -> str:
    """A briefing for an agent that gets the actions as tools, whose descriptions say the same."""
    return briefing.replace(f"{_actions_part()}\n", "").rstrip()


def _actions_part() -> str:
    return f"## Actions\n\nSend one JSON object at a time:\n\n{actions.describe()}"


def refused(error: Exception) -> str:
    """The answer to an action that could not be carried out."""
    return f"error: {error}"


def verdict(score: Score, card: Card, tier: Tier) -> str:
    """A score on dev, with its standard errors and details; or the reason why the submission has no score."""
    if score.value is None:
        return f"dev: {score.outcome}: {score.reason}"
    details = "".join(f"\n  {name}: {value:.6g}" for name, value in sorted(score.details.items()))
    kind = tier.anchors["dev"].target_kind
    gain = percent(score.improvement or 0.0, score.improvement_error)
    noise = "" if score.error is None else f" ± {score.error:.2g}"
    meaning = f"; {STANDARD_ERRORS}" if noise else ""
    return (
        f"dev: {card.metric.name} {score.value:.6g}{noise} ({card.metric.unit}, {card.metric.direction}); "
        f"{gain} of the way from the baseline to the {kind}{meaning}{details}"
    )


def command_ending(result: ExecResult, seconds: float) -> str:
    """How a command ended, given its time limit."""
    if result.ending == "timeout":
        return "stopped: it reached " + (
            "the time limit" if seconds < 1 else f"its time limit of {seconds:.0f} s"
        )
    return _ending(result)


def job_ending(result: ExecResult, ended_by: str) -> str:
    """How a job ended; `ended_by` names what ended it, and is empty if nothing but the agent did."""
    return f"ended by {ended_by}" if ended_by else _ending(result)


def _ending(result: ExecResult) -> str:
    if result.ending == "exited":
        return f"exit status {result.exit_status}{'' if result.could_grow else NO_GROWTH}"
    if result.ending == "killed":
        return "killed"
    return f"stopped: it reached {_LIMITS[result.ending]}"


def evaluation_failure(result: ExecResult, entry_point: str, tier: Tier) -> str:
    """Why there is nothing to score; empty if the entry point succeeded."""
    limits = tier.limits
    match result.ending:
        case "exited":
            status = result.exit_status
            return f"{entry_point!r} ended with exit status {status}; see its output" if status else ""
        case "timeout":
            return f"{entry_point!r} ran longer than {limits.evaluation_seconds:g} s by the clock"
        case "cpu":
            return f"{entry_point!r} used more than {limits.evaluation_cpu_seconds:g} s of CPU time"
        case "memory":
            return f"{entry_point!r} used more than {limits.memory_mb} MiB of memory"
        case ending:
            return f"{entry_point!r} was stopped: it reached the limit on {ending}"


def workspace_failure(error: Exception) -> str:
    """Why a workspace could not be evaluated."""
    return f"the workspace cannot be evaluated: {error}"


def job_started(number: int, log: str) -> str:
    """A job was started; `log` is the path of its output in the workspace."""
    return f"job {number} has started; its output goes to {log}"


def too_many_jobs(running: Sequence[int], limit: int) -> str:
    """No further job can be started now."""
    names = ", ".join(map(str, running))
    return f"jobs {names} are running, and at most {limit} can run at once; wait for one or kill one"


def unknown_job(number: int, known: Sequence[int]) -> str:
    """No job has that number."""
    return f"job {number} does not exist. Known: {', '.join(map(str, known)) or 'none; start_job starts one'}"


def job_pattern_failed(number: int, reason: str) -> str:
    """The pattern of a wait cannot be used."""
    return f"{reason}; job {number} is not affected"


def job_matched(number: int) -> str:
    """The wait ended because a line matches."""
    return f"[job {number}: this line matches]"


def job_quiet(number: int, seconds: float) -> str:
    """The wait ended because the job printed nothing for a while."""
    return f"[job {number} was quiet for {seconds:g} s]"


def job_still_runs(number: int, seconds: float) -> str:
    """The wait ended because its time is over."""
    return f"[job {number} is still running after {seconds:.0f} s]"


def job_killed(number: int) -> str:
    """The agent ended a job."""
    return f"[job {number} has ended]"


def job_ended(number: int, ending: str) -> str:
    """A job ended, and how."""
    return f"[job {number}: {ending}]"


def jobs_ended(by: str, numbers: Sequence[int]) -> str:
    """Something ended the jobs that were running; empty if none was."""
    names = ", ".join(f"job {number}" for number in numbers)
    return f"[{by} has ended {names}]" if numbers else ""


def output_was_cut(what: str, total: int, kept_bytes: int) -> str:
    """A command or a job printed more than the file of its output holds; empty if it did not."""
    if total <= kept_bytes:
        return ""
    return f"[the {what} printed {total:,} bytes; its file has the first {kept_bytes:,}]"


def output_is_folded(log: str) -> str:
    """The output is shown as a terminal shows it; its bytes are in a file of the workspace."""
    return f"[as a terminal shows it; {log} has all that was printed]"
