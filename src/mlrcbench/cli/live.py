"""What `mlrcbench run` shows while an episode is played: who acts, for how long, and what the code prints."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mlrcbench.agents import Step
from mlrcbench.cli.progress import Progress, duration, say
from mlrcbench.env.research_env import ResearchEnv
from mlrcbench.errors import ActionError
from mlrcbench.protocol.actions import Evaluate, Run, Submit, name_of, parse
from mlrcbench.runs import Assignment
from mlrcbench.runs.newest_output import last_line
from mlrcbench.runs.plan import EPISODES
from mlrcbench.runs.results import RECORDS
from mlrcbench.text import one_line

_TITLE_CHARS = 200


class EpisodeWatch:
    """Shows an episode step by step: a progress line while somebody works, then each step's result.

    Args:
        env: The environment in which the episode is played.
        quiet: Whether to show nothing.
    """

    def __init__(self, env: ResearchEnv, *, quiet: bool) -> None:
        self.quiet = quiet
        self.started = time.monotonic()
        self.dev: dict[str, Any] | None = None
        self._env = env
        self._line: Progress | None = None
        self._step_started = self.started
        self._evaluation_seconds = 0.0
        self._evaluates = False
        self._left = ""
        self._show("step 1: the episode begins", announced=False)

    def before(self, number: int, action: Any) -> None:
        """Called when a step begins."""
        self._end()
        since = time.time()
        self._step_started = time.monotonic()
        self._show(
            f"step {number}: {title(action)}",
            times=self._times(action),
            status=lambda: last_line(self._env.record, since),
        )

    def after(self, step: Step) -> None:
        """Called when a step has ended."""
        self._end()
        if self._evaluates:
            self._evaluation_seconds = time.monotonic() - self._step_started
        first = one_line(step.observation["text"].partition("\n")[0])[:150]
        if "score" in step.info:
            self.dev = step.info["score"]
        if not self.quiet:
            say(f"step {step.number}: {title(step.action)}: {first}")
        if not (step.terminated or step.truncated):
            assert self._env.observation is not None
            left = self._env.observation.left
            self._left = f"{duration(left.seconds)} of the episode left"
            counts = f"{left.steps} steps and {left.evaluations} evaluations left"
            self._show(
                f"step {step.number + 1}: the agent thinks",
                times=self._left,
                status=lambda: counts,
                announced=False,
            )

    def close(self) -> None:
        """Stop showing what happens."""
        self._end()

    def _times(self, action: Any) -> str:
        """How long the step may take, how long the last evaluation took, and what is left of the episode."""
        limits = self._env.tier.limits
        self._evaluates = False
        try:
            parsed = parse(action)
        except ActionError:
            return self._left
        self._evaluates = isinstance(parsed, Evaluate | Submit)
        parts = [self._left]
        if self._evaluates:
            parts.insert(0, f"at most {duration(limits.evaluation_seconds)}")
            if self._evaluation_seconds:
                parts.insert(0, f"{duration(self._evaluation_seconds)} the last time")
        elif isinstance(parsed, Run):
            parts.insert(
                0,
                f"at most {duration(min(parsed.timeout or limits.command_seconds, limits.command_seconds))}",
            )
        return ", ".join(filter(None, parts))

    def _show(self, text: str, **options: Any) -> None:
        self._line = Progress(text, quiet=self.quiet, **options)
        self._line.__enter__()

    def _end(self) -> None:
        if self._line is not None:
            self._line.__exit__(None, None, None)
            self._line = None


class RunWatch:
    """Says which episodes of a run are being played, for how long, and what the first one's code prints.

    Args:
        directory: The run's directory.
    """

    def __init__(self, directory: Path) -> None:
        self._episodes = directory / EPISODES
        self._started: dict[Assignment, float] = {}

    def begin(self, assignment: Assignment) -> None:
        """Called when an episode begins."""
        self._started[assignment] = time.time()

    def end(self, assignment: Assignment) -> None:
        """Called when an episode has a result."""
        self._started.pop(assignment, None)

    def status(self) -> str:
        """The episode that is being played for the longest time, and how many others are."""
        playing = dict(self._started)
        if not playing:
            return ""
        assignment, since = next(iter(playing.items()))
        others = f" and {len(playing) - 1} more" if len(playing) > 1 else ""
        records = sorted((self._episodes / assignment.name / RECORDS).glob("*"), reverse=True)
        said = last_line(records[0], since) if records else ""
        return f"{assignment.name} {duration(time.time() - since)}{others} {said}".rstrip()


def title(action: Any) -> str:
    """An action's name and what it is about, on one line."""
    try:
        parsed = parse(action)
    except ActionError:
        return "no action"
    subject = str(getattr(parsed, "path", getattr(parsed, "command", "")))
    return one_line(f"{name_of(parsed)} {subject[:_TITLE_CHARS]}".strip())
