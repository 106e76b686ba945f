"""A played evaluation: the entry point in its sandbox, and the competition's oracle, which asks it questions.

The two run at once, joined by two pipes. The game is over when the oracle returns; then the agent's
processes are ended, and how they end does not matter. The oracle writes the transcript from which the
evaluation is scored.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from mlrcbench.artefacts.transcript import TRANSCRIPT
from mlrcbench.catalog.card import Tier
from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.instances import Instance
from mlrcbench.catalog.trusted import ChildError, call
from mlrcbench.errors import SandboxError, ScoringError, SubmissionError, TooSlowError
from mlrcbench.protocol import wording
from mlrcbench.sandbox import ExecResult, Sandbox
from mlrcbench.score import Outcome, Score, Split
from mlrcbench.storage.layout import ARTEFACTS, EVALUATION_OUTPUT

# Endings of the entry point that are outcomes of an evaluation; every other one is "invalid".
_OUTCOMES: Mapping[str, Outcome] = {"timeout": "timeout", "cpu": "timeout", "memory": "memory"}
# A sandbox ends a command a second after its channel was closed, unless agent code holds the channel open.
_CLOSED_SECONDS = 5.0


def failed(result: ExecResult, competition: Competition, tier: Tier) -> Score | None:
    """The score of an entry point that failed; None if it succeeded."""
    reason = wording.evaluation_failure(result, competition.card.entry_point, tier)
    return Score.invalid(reason, _OUTCOMES.get(result.ending, "invalid")) if reason else None


def play(
    box: Sandbox, competition: Competition, instance: Instance, split: Split, keep: Path
) -> tuple[ExecResult, Score | None]:
    """Play one game.

    Args:
        box: The sandbox of the evaluation.
        competition: The competition, which has an oracle.
        instance: The instance, which has the answers.
        split: "dev" or "test".
        keep: The folder of the evaluation, for `artefacts/transcript` and `output.txt`.

    Returns:
        The result of the entry point, whose wall time is the time in which the oracle waited for it, and
        an invalid score if the agent broke the rules of the game.

    Raises:
        SandboxError: The sandbox failed.
        ScoringError: The oracle failed.
    """
    tier = competition.card.tier(instance.tier)
    (keep / ARTEFACTS).mkdir()
    down_read, down_write = os.pipe()
    up_read, up_write = os.pipe()
    with ThreadPoolExecutor(1) as pool:
        game = pool.submit(_ask, competition, instance, split, keep, (down_write, up_read))
        ending = _End(box, game)
        try:
            limits = tier.limits.of_evaluation(_longest(tier))
            channel = (down_read, up_write)
            result = box.run(
                competition.card.entry_point, limits, log=keep / EVALUATION_OUTPUT, channel=channel
            )
        except SandboxError:
            if not ending.forced:
                raise
            result = ExecResult("killed", None, b"")
        finally:
            ending.cancel()
    try:
        seconds = game.result()
    except SubmissionError as error:
        return result, _refusal(result, error, competition, tier)
    except ChildError as error:
        raise ScoringError(f"{competition.id}'s oracle failed on {split}: {error}") from error
    return dataclasses.replace(result, wall_seconds=seconds), None


class _End:
    """Ends the sandbox by force some time after the game, if it still runs.

    Attributes:
        forced: Whether that was necessary.
    """

    def __init__(self, box: Sandbox, game: Future[float]) -> None:
        self._box = box
        self._timer = threading.Timer(_CLOSED_SECONDS, self._force)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._cancelled = False
        self.forced = False
        game.add_done_callback(self._start)

    def cancel(self) -> None:
        """The command has ended."""
        with self._lock:
            self._cancelled = True
            self._timer.cancel()

    def _start(self, _: Future[float]) -> None:
        with self._lock:
            if not self._cancelled:
                self._timer.start()

    def _force(self) -> None:
        self.forced = True
        self._box.interrupt()


def _ask(
    competition: Competition, instance: Instance, split: Split, keep: Path, channel: tuple[int, int]
) -> float:
    """Run the oracle in a trusted child process; returns the seconds in which it waited for the agent."""
    tier = competition.card.tier(instance.tier)
    assert competition.oracle is not None
    assert tier.play is not None
    arguments = {
        "answers": str(instance.answers(split)),
        "transcript": str(keep / ARTEFACTS / TRANSCRIPT),
        "limits": dataclasses.asdict(tier.play),
        "seconds": tier.limits.evaluation_seconds,
    }
    seconds: float = call(
        "play",
        competition.oracle,
        arguments,
        seconds=_longest(tier),
        threads=tier.limits.threads,
        gpu=tier.gpu_mb > 0,
        channel=channel,
    )
    return seconds


def _longest(tier: Tier) -> float:
    """Wall time of a game in which both sides take as long as they may."""
    assert tier.play is not None
    return tier.limits.evaluation_seconds + tier.play.oracle_seconds


def _refusal(result: ExecResult, error: SubmissionError, competition: Competition, tier: Tier) -> Score:
    """The score of a game that the agent lost by breaking its rules, or by its program's end."""
    outcome: Outcome = "timeout" if isinstance(error, TooSlowError) else "invalid"
    stopped = failed(result, competition, tier) if result.ending != "killed" else None
    if stopped is None:
        return Score.invalid(str(error), outcome)
    return Score.invalid(f"{stopped.reason} ({error})", stopped.outcome if outcome == "invalid" else outcome)
