"""A run that is killed and continued gives no agent an attempt more than the rules allow."""

from __future__ import annotations

import signal
import sys
import textwrap
from pathlib import Path

import pytest

from mlrcbench.runs import Result, run
from tests.env.test_research_env import PERFECT, WORSE
from tests.runs.test_runs import _start_run, _until

# A bad method in its first attempts, and a good one in its last. It stops after the number of messages that
# it is given, except in its last attempt.
_STOPPER = """
    import json, pathlib, sys, time
    folder, attempts, messages = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    number = len(list(folder.glob("begun-*")))
    (folder / f"begun-{number}").touch()
    text = (folder / ("bad.py" if number < attempts else "good.py")).read_text()
    actions = [{"action": "write_file", "path": "method.py", "text": text}, {"action": "evaluate"}]
    for seen, line in enumerate(sys.stdin, 1):
        if number < attempts and seen == messages:
            (folder / f"stopped-{number}").touch()
            time.sleep(600)
        print(json.dumps((actions + [{"action": "submit"}])[seen - 1]), flush=True)
"""


class Stopper:
    """An agent that stops in its first attempts, and the run that plays it."""

    def __init__(self, folder: Path, attempts: int, messages: int) -> None:
        program = folder / "stopper.py"
        program.write_text(textwrap.dedent(_STOPPER))
        (folder / "bad.py").write_text(WORSE)
        (folder / "good.py").write_text(PERFECT)
        self.agent = f"external:{sys.executable} {program} {folder} {attempts} {messages}"
        self.folder = folder
        self.killed = 0

    def stop_run(self, number: signal.Signals) -> int:
        """Play until the agent stops, and send the run a signal; returns its exit status."""
        process = _start_run(self.folder / "run", self.agent)
        _until((self.folder / f"stopped-{self.killed}").exists)
        self.killed += 1
        process.send_signal(number)
        process.communicate(timeout=60)
        return process.returncode

    def finish(self) -> Result:
        """Continue the run to its end."""
        (result,) = run([self.agent], ["_template"], directory=self.folder / "run")
        return result

    @property
    def begun(self) -> int:
        """How many attempts have begun."""
        return len(list(self.folder.glob("begun-*")))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_episode_whose_run_was_killed_has_failed_once(number: signal.Signals, tmp_path: Path) -> None:
    """It is played again, and counts at most as what the first attempt had shown."""
    stopper = Stopper(tmp_path, 1, 3)
    assert stopper.stop_run(number) == -number
    result = stopper.finish()
    assert result.outcome == "played"
    assert result.test is not None
    assert result.test["improvement"] > 0.5
    (first,) = result.attempts
    assert "the run was killed" in first.reason
    assert [score["improvement"] for score in first.dev] == [first.limit]
    assert result.improvement == first.limit
    assert result.improvement < 0
    assert result.infrastructure_failed
    assert result.record != first.record


def test_an_episode_whose_run_was_killed_twice_is_not_played_again(tmp_path: Path) -> None:
    """However often the run is continued; both attempts stay on the disk."""
    stopper = Stopper(tmp_path, 2, 3)
    for _ in range(2):
        stopper.stop_run(signal.SIGKILL)
    result = stopper.finish()
    assert result.outcome == "infrastructure failed"
    assert len(result.attempts) == 1
    assert result.improvement == min(float(str(one.limit)) for one in (result, *result.attempts)) < 0
    assert stopper.finish() == result
    assert stopper.begun == 2


def test_what_the_operator_stops_begins_again(tmp_path: Path) -> None:
    """Ctrl-C is the operator's decision: the episode has no failed attempt, and its first record stays."""
    stopper = Stopper(tmp_path, 1, 3)
    assert stopper.stop_run(signal.SIGINT) == 130
    result = stopper.finish()
    assert (result.outcome, result.attempts) == ("played", ())
    assert result.improvement > 0.5
    assert not result.infrastructure_failed
    assert len(list((result.folder / "records").glob("*"))) == 2


def test_an_attempt_in_which_the_agent_had_not_acted_does_not_count(tmp_path: Path) -> None:
    """Nothing had gone badly by then."""
    stopper = Stopper(tmp_path, 1, 1)
    stopper.stop_run(signal.SIGKILL)
    result = stopper.finish()
    assert (result.outcome, result.attempts) == ("played", ())
