"""What an agent reads is what a program printed: its indentation, its last state, its line ends."""

from __future__ import annotations

from pathlib import Path

import pytest

import mlrcbench
from mlrcbench import EditFile, Evaluate, KillJob, ReadFile, Run, StartJob, WaitJob, WriteFile
from tests.conftest import body

INDENTED = "printf '\\n\\n    four\\n  two\\n\\n'"
BAR = "for i in 1 2 3; do printf '\\rstep %s/3' $i; done; printf '\\033[32m done\\033[0m\\n'"


def test_the_first_line_keeps_its_indentation(env: mlrcbench.ResearchEnv) -> None:
    """In commands, jobs that ended, matched or were killed, and evaluations."""
    assert body(env, Run(INDENTED)).startswith("    four\n  two\n[exit status 0]")
    for job, action in ((1, WaitJob(1)), (2, WaitJob(2, "match", "two"))):
        body(env, StartJob(f"{INDENTED}; sleep 0.2"))
        assert body(env, action).startswith(f"    four\n  two\n[job {job}: ")
    body(env, StartJob(f"{INDENTED}; sleep 60"))
    body(env, WaitJob(3, "quiet", seconds=0.1))
    body(env, StartJob(f"{INDENTED}; sleep 60"))
    body(env, WaitJob(4, "match", "four"))
    assert "\n  two\n[killed]" in body(env, KillJob(4))
    body(env, WriteFile("method.py", "print('\\n    four')\n"))
    assert "\n    four\n" in body(env, Evaluate())


def test_progress_is_shown_as_on_a_terminal(env: mlrcbench.ResearchEnv) -> None:
    """The last state is shown, the file has all bytes, and the agent can read it."""
    text = body(env, Run(BAR))
    note = "[as a terminal shows it; outputs/step-0001.txt has all that was printed]"
    assert text.startswith(f"step 3/3 done\n{note}\n[exit status 0]")
    assert "^Mstep 1/3^Mstep 2/3" in body(env, Run("cat -v outputs/step-0001.txt"))
    assert body(env, Run("printf 'a\\r\\nb\\r\\n'")).startswith("a\nb\n[exit status 0]")
    body(env, StartJob(BAR))
    assert body(env, WaitJob(1)).startswith("step 3/3 done\n[job 1: exit status 0]")
    assert env.record is not None
    assert b"\rstep 1/3" in (env.record / "outputs" / "step-0001.txt").read_bytes()


def test_the_whole_of_a_long_output_is_named(env: mlrcbench.ResearchEnv) -> None:
    """Of a command, a job and an evaluation."""
    assert "bytes left out; the whole output is in outputs/step-0001.txt" in body(env, Run("seq 9999"))
    text = body(env, Run("head -c 20000000 /dev/zero | tr '\\0' '.'"))
    assert "[the command printed 20,000,000 bytes; its file has the first 16,777,216]" in text
    body(env, WriteFile("method.py", "print(list(range(9999)))\n"))
    assert "left out; the whole output is in the episode's record, which" in body(env, Evaluate())


def test_a_workspace_over_its_limit_is_named(env: mlrcbench.ResearchEnv) -> None:
    """The output of a command that began in one says why files could not grow; the next output does not."""
    body(env, Run("for i in 1 2 3 4; do head -c 7000000 /dev/zero > big$i; done; sleep 1"))
    reason = "files could not grow in this command, because the workspace was over its limit"
    text = body(env, Run("rm big*; echo hello > notes.txt; cat notes.txt"))
    assert text.startswith(f"[exit status 153; {reason}]")
    assert reason not in body(env, Run("echo hello > notes.txt"))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_is_read_can_be_edited(env: mlrcbench.ResearchEnv, end: str) -> None:
    """A passage of several lines is copied as it is shown; the file keeps its line ends."""
    body(env, WriteFile("notes.txt", f"one{end}    two{end}three{end}"))
    text = body(env, ReadFile("notes.txt"))
    assert ("[lines end in CRLF" in text) == (end == "\r\n")
    shown = [line[8:] for line in text.splitlines() if line[:6].strip().isdigit()]
    assert shown == ["one", "    two", "three"]
    assert "edited 'notes.txt'" in body(env, EditFile("notes.txt", "\n".join(shown[:2]), "1\n    2\n    2b"))
    written = (Path(env.workspace.root) / "notes.txt").read_bytes().decode()
    assert written == f"1{end}    2{end}    2b{end}three{end}"
    assert "occurs 2 times" in body(env, EditFile("notes.txt", "    2", "x"))
