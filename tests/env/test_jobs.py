"""Jobs of an agent: started, waited for, killed, and ended when they must end."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

import mlrcbench
from mlrcbench import Evaluate, KillJob, ReadFile, Run, StartJob, Submit, WaitJob, WriteFile
from mlrcbench.sandbox import MAX_JOBS
from tests.conftest import body
from tests.env.test_research_env import make
from tests.sandbox.conftest import running

COUNT = "for i in 1 2 3; do echo epoch $i; done; until [ -e go ]; do sleep 0.02; done; echo done"


def test_a_job_is_started_watched_and_waited_for(env: mlrcbench.ResearchEnv) -> None:
    """Each of these is one step, and other steps are possible in between."""
    assert body(env, StartJob(COUNT)).startswith("job 1 has started; its output goes to outputs/job-1.txt\n[")
    text = body(env, WaitJob(1, "match", "epoch [23]"))
    assert text.startswith("epoch 1\nepoch 2\n[job 1: this line matches]\n[under ")
    assert "[exit status 0]" in body(env, Run("echo meanwhile"))
    assert body(env, WaitJob(1, "match", "epoch")).startswith("epoch 3\n[job 1: this line matches]")
    text = body(env, WaitJob(1, "quiet", seconds=0.2))
    assert text.startswith("[job 1 was quiet for 0.2 s]\n[under ")
    assert body(env, WaitJob(1, max_seconds=0.2)).startswith("[job 1 is still running after 0 s]")
    assert "     2  epoch 2\n" in body(env, ReadFile("outputs/job-1.txt"))
    assert "epoch 3\n" in body(env, Run("cat outputs/job-1.txt; touch go"))
    for _ in range(2):
        assert body(env, WaitJob(1)).startswith("done\n[job 1: exit status 0]\n[")
    assert body(env, WaitJob(1, "match", "on")).startswith("done\n[job 1: this line matches]")
    assert body(env, WaitJob(1, "match", "on")).startswith("[job 1: exit status 0]")
    assert body(env, KillJob(1)).startswith("[job 1 has ended]\n[exit status 0]")


def test_what_a_wait_showed_is_shown_again_at_the_end(env: mlrcbench.ResearchEnv) -> None:
    """A wait that ran out shows new output; the end shows all output, so that it can be compared."""
    body(env, StartJob("echo one; until [ -e go ]; do sleep 0.02; done; echo two; exit 4"))
    assert env.record is not None
    assert env._keeper.episode is not None
    log = env._keeper.episode.workspace.views["outputs"] / "job-1.txt"
    while log.read_text() != "one\n":
        time.sleep(0.02)
    observation, *_ = env.step(WaitJob(1, "quiet", seconds=0.3))
    assert observation["text"].startswith("[job 1 was quiet for 0.3 s]\none\n[")
    assert observation in env.observation_space
    assert body(env, WaitJob(1, max_seconds=0.1)).startswith("[job 1 is still running after 0 s]\n[under")
    body(env, Run("touch go"))
    assert body(env, WaitJob(1)).startswith("one\ntwo\n[job 1: exit status 4]")
    steps = mlrcbench.read_record(env.record).steps
    assert [step.aside for step in steps] == ["", "one", "", "", ""]


def test_a_job_that_is_killed_is_gone(env: mlrcbench.ResearchEnv) -> None:
    """Everything that it started is killed, too."""
    body(env, StartJob("echo hello; setsid sleep 4321.91 & sleep 4321.91"))
    body(env, WaitJob(1, "match", "hello"))
    assert body(env, KillJob(1)).startswith("[job 1 has ended]\n[killed]\n[")
    assert running("4321.91") == []
    assert body(env, WaitJob(1)).startswith("[job 1: killed]")


@pytest.mark.parametrize("how", ["evaluate", "host", "submit", "steps", "reset", "close"])
def test_jobs_end_when_they_must(how: str, tmp_path: Path) -> None:
    """They end at an evaluation, which says so, and at the end of the episode, however it ends."""
    with make(tmp_path, budget={"steps": 3 if how == "steps" else 20}) as env:
        env.reset(seed=0)
        body(env, StartJob("echo up; setsid sleep 4321.92 & sleep 4321.92"))
        body(env, WaitJob(1, "match", "up"))
        assert running("4321.92")
        if how == "evaluate":
            assert "\n[an evaluation has ended job 1]\n[" in body(env, Evaluate())
            assert running("4321.92") == []
            assert body(env, WaitJob(1)).startswith("[job 1: ended by an evaluation]")
        elif how == "host":
            assert env.evaluate("dev").value is not None
            assert running("4321.92") == []
        elif how in ("submit", "steps"):
            _, _, terminated, truncated, _ = env.step(Submit() if how == "submit" else Run("true"))
            assert (terminated, truncated) == (how == "submit", how == "steps")
        elif how == "reset":
            env.reset()
        else:
            env.close()
        assert running("4321.92") == []


def test_an_evaluation_sees_a_workspace_at_rest(env: mlrcbench.ResearchEnv) -> None:
    """A job that rewrites the method all the time has ended before it is copied."""
    loop = "while :; do echo 'raise SystemExit(9)' > method.py; cp main.py method.py; done"
    body(env, StartJob(loop))
    body(env, WaitJob(1, "quiet", seconds=0.1))
    body(env, Evaluate())
    before = body(env, Run("md5sum method.py"))
    assert body(env, Run("sleep 0.2; md5sum method.py")).splitlines()[0] == before.splitlines()[0]


def test_the_number_of_running_jobs_is_limited(env: mlrcbench.ResearchEnv) -> None:
    """Jobs that have ended do not count."""
    for number in range(1, MAX_JOBS + 1):
        assert f"job {number} has started" in body(env, StartJob("sleep 60"))
    assert "jobs 1, 2, 3, 4 are running, and at most 4 can run at once" in body(env, StartJob("true"))
    body(env, KillJob(2))
    assert "job 5 has started" in body(env, StartJob("true"))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (WaitJob(1), "job 1 does not exist. Known: none"),
        (KillJob(3), "job 3 does not exist"),
        (WaitJob(1, "match"), "job 1 does not exist"),
    ],
)
def test_jobs_that_do_not_exist(env: mlrcbench.ResearchEnv, action: Any, message: str) -> None:
    """The error names the jobs that exist."""
    assert message in body(env, action)


def test_patterns_that_cannot_be_used(env: mlrcbench.ResearchEnv) -> None:
    """A missing, invalid or hostile pattern is an error, and the job is not affected."""
    body(env, StartJob(f"echo {'a' * 100}!; sleep 60"))
    body(env, WaitJob(1, "quiet", seconds=0.1))
    assert "needs a pattern" in body(env, WaitJob(1, "match"))
    assert "is no regular expression" in body(env, WaitJob(1, "match", "("))  # prose: ok
    assert "took more than 1 s" in body(env, WaitJob(1, "match", "(a+)+$"))
    assert body(env, WaitJob(1, "match", "a!")).startswith("aaaa")


def test_time_is_limited(tmp_path: Path) -> None:
    """The limits are the job's, the wait's, and what is left of the episode."""
    with make(tmp_path, budget={"seconds": 8.0}) as env:
        env.reset(seed=0)
        body(env, StartJob("sleep 60", timeout=0.2))
        assert body(env, WaitJob(1)).startswith("[job 1: stopped: it reached its time limit]")
        body(env, StartJob("sleep 60"))
        _, _, _, truncated, info = env.step(WaitJob(2, max_seconds=1e9))
        assert (truncated, info["truncated_by"]) == (True, "seconds")


def test_long_output_is_cut_and_can_be_read(env: mlrcbench.ResearchEnv) -> None:
    """The observation shows head and tail; the file has all of it."""
    body(env, StartJob("seq 1 50000"))
    text = body(env, WaitJob(1))
    assert text.startswith("1\n2\n")
    assert "bytes left out; the whole output is in outputs/job-1.txt ...]" in text
    assert "\n50000\n[job 1: exit status 0]" in text
    assert " 30000\n" in body(env, ReadFile("outputs/job-1.txt", start=30_000, end=30_000))


def test_a_job_cannot_take_the_place_of_a_view(env: mlrcbench.ResearchEnv) -> None:
    """Whatever it does to the links, an action works or ends in an error that says why."""
    code = (
        "import os\nwhile True:\n"
        "    for work in (lambda: os.unlink('data'), lambda: os.mkdir('data'), lambda: os.rmdir('data'),\n"
        "                 lambda: os.symlink('/', 'outputs'), lambda: os.unlink('outputs')):\n"
        "        try:\n            work()\n        except OSError:\n            pass\n"
    )
    body(env, WriteFile("hostile.py", code))
    body(env, StartJob(f"{sys.executable} hostile.py"))
    for _ in range(8):
        text = body(env, Run("true"))
        assert "[exit status 0]" in text or "a job keeps changing" in text
        assert "train.npy' is binary" in body(env, ReadFile("data/train.npy"))


def test_records_with_jobs_replay(tmp_path: Path) -> None:
    """Text that the job's output determines is compared; text that depends on the moment is not."""
    script = [
        StartJob(f"{COUNT}; exit 2"),
        WaitJob(1, "match", "epoch 2"),
        WaitJob(1, max_seconds=0.01),
        WaitJob(1, "quiet", seconds=0.1),
        Run("touch go"),
        WaitJob(1),
        StartJob("echo hello; sleep 60"),
        WaitJob(2, "match", "hello"),
        KillJob(2),
        Submit(),
    ]
    with make(tmp_path) as env:
        env.reset(seed=0)
        for action in script:
            env.step(action)
        assert env.record is not None
        record = env.record
    replay = mlrcbench.replay(record, records=tmp_path / "again")
    assert (replay.steps, replay.difference) == (len(script), None)


def test_a_sandbox_without_jobs_says_so(env: mlrcbench.ResearchEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent reads an error; nothing is raised."""
    monkeypatch.setattr(type(env._keeper.require().workbench.sandbox), "runs_jobs", False)
    assert "error: this environment's sandbox cannot run jobs; use the action run" in body(
        env, StartJob("true")
    )
