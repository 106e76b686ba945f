"""State as a value: environments are captured, restored and forked."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import mlrcbench
from mlrcbench import (
    Evaluate,
    ReadFile,
    ResearchEnv,
    Run,
    SnapshotError,
    StartJob,
    Submit,
    WaitJob,
    WriteFile,
)
from mlrcbench.storage.record import Parent
from tests.conftest import SANDBOX, body
from tests.env.test_research_env import BETTER, PERFECT, WORSE, make

# What an agent sees of its workspace: paths, kinds, modes, times, contents.
LOOK = Run(
    "find . -not -type l -printf '%p %y %m %T@\\n' -o -printf '%p %l\\n' | sort; cat notes.txt method.py"
)
BEFORE = [
    Run("mkdir lib; echo notes > notes.txt; chmod 640 notes.txt; ln -s ../notes.txt lib/link; chmod 500 lib"),
    Run("seq 1 20000"),
    WriteFile("method.py", BETTER),
    Evaluate(),
]
AFTER = [
    LOOK,
    ReadFile("outputs/step-0002.txt", start=19_999, end=20_000),
    WriteFile("method.py", WORSE),
    Evaluate(),
    Run("cat outputs/step-0002.txt | tail -n 1; ls; rm -rf lib notes.txt"),
    Submit(),
]


@pytest.fixture
def played(tmp_path: Path) -> Iterator[ResearchEnv]:
    """An environment after some steps of different kinds."""
    with make(tmp_path, secret="my own secret", reward="shaped") as env:
        env.reset(seed=3)
        for action in BEFORE:
            env.step(action)
        yield env


def play(env: ResearchEnv, actions: list[Any]) -> list[Any]:
    """What the steps return, without what depends on the clock."""
    results = []
    for action in actions:
        observation, *rest = env.step(action)
        text = observation["text"].rpartition("\n")[0]
        numbers = [
            observation[name].item() for name in ("steps_left", "evaluations_left", "best_improvement")
        ]
        results.append((text, numbers, *rest))
    return results


def test_a_restored_episode_continues_like_the_original(played: ResearchEnv) -> None:
    """Observations, rewards, budget, best on dev, files, modes and times are the same each time."""
    start = played.snapshot()
    drawn = played.np_random.integers(10**9)
    first = play(played, AFTER)
    assert first[-1][-1]["test_score"]["improvement"] > 0.0, (
        "the better evaluation before was scored, not the worse one after"
    )
    for spoil in ([], [Run("chmod 777 *; rm -rf *")], [WriteFile("method.py", PERFECT), Evaluate()]):
        observation, info = played.restore(start)
        assert observation in played.observation_space
        assert observation["text"].startswith("dev: root mean squared error")
        assert info["score"]["outcome"] == "scored"
        if spoil:
            play(played, spoil)
            played.restore(start)
        assert played.np_random.integers(10**9) == drawn
        assert play(played, AFTER) == first


def test_forks_continue_like_the_original_and_independently(played: ResearchEnv, tmp_path: Path) -> None:
    """Forks continue in any order, also when the parent has changed, ended, or is closed."""
    children = played.fork(3)
    try:
        drawn = [env.np_random.integers(10**9) for env in (played, *children)]
        assert len(set(drawn)) == 1
        first = play(children[0], AFTER)
        assert play(played, AFTER) == first
        assert play(children[1], AFTER) == first
        played.close()
        assert play(children[2], AFTER) == first
    finally:
        for child in children:
            child.close()


def test_forks_of_forks_share_one_store(played: ResearchEnv) -> None:
    """The store holds each content once, and is removed with the last environment."""
    (child,) = played.fork()
    (grandchild,) = child.fork()
    store = played._keeper.store()
    assert child._keeper.store() is store
    assert grandchild._keeper.store() is store
    size = store.total_bytes
    for env in child.fork(5):
        env.close()
    assert store.total_bytes == size
    played.close()
    child.close()
    assert store.folder.exists()
    assert "notes" in body(grandchild, LOOK)
    grandchild.close()
    assert not store.folder.exists()


def test_a_fork_knows_its_sandbox_before_it_is_used(played: ResearchEnv) -> None:
    """Its sandbox runs and enforces the same as its parent's; asking does not begin the episode."""
    (child,) = played.fork()
    with child:
        assert played.runs_jobs
        assert child.runs_jobs
        assert child.isolation == played.isolation
        assert child.isolation is not None
        assert child._keeper.episode is None
        assert (child.workspace.root / "method.py").exists()


def test_without_an_episode_there_is_no_sandbox(tmp_path: Path) -> None:
    """Before the first reset, and after the end."""
    with make(tmp_path) as env:
        assert (env.runs_jobs, env.isolation) == (False, None)


def test_a_fork_costs_nothing_until_it_is_used(played: ResearchEnv, tmp_path: Path) -> None:
    """An unused fork makes no folder and no record, but its clock runs."""
    before = len(list((tmp_path / "records").iterdir()))
    used, unused = played.fork(2)
    assert (used.record, used._keeper._folder._path, unused.record) == (None, None, None)
    assert used._keeper.pending is not None
    used._keeper.pending = dataclasses.replace(used._keeper.pending, since=used._keeper.pending.since - 100.0)
    unused.close()
    assert len(list((tmp_path / "records").iterdir())) == before
    with used:
        used.step(ReadFile("method.py"))
        assert used._keeper.require().meter.seconds > 100.0
        assert used.record is not None
        assert all(entry.matches for entry in mlrcbench.rescore(used.record, secret="my own secret"))
        assert (used.record / "outputs" / "step-0002.txt").exists()


def test_agent_code_cannot_reach_what_is_stored(played: ResearchEnv) -> None:
    """It may do anything to its files; other forks and snapshots stay the same."""
    start = played.snapshot()
    children = played.fork(2)
    spoil = "chmod -R u+rwX .; for f in $(find . -type f); do echo >> $f; echo | dd of=$f conv=notrunc; done"
    try:
        before = body(children[0], LOOK).rpartition("\n")[0]
        for env in (played, children[0]):
            env.step(Run(spoil))
        assert body(children[1], LOOK).rpartition("\n")[0] == before
        played.restore(start)
        assert body(played, LOOK).rpartition("\n")[0] == before
    finally:
        for child in children:
            child.close()


def test_a_branch_has_a_record_that_replays(played: ResearchEnv, tmp_path: Path) -> None:
    """It holds the earlier steps too, names its parent, and can be scored again."""
    parent = played.record
    start = played.snapshot()
    play(played, AFTER[:3])
    played.restore(start)
    assert parent is not None
    assert played.record not in (None, parent)
    play(played, AFTER)
    (record,) = [mlrcbench.read_record(path) for path in (played.record,) if path]
    assert record.header.parent == Parent(parent.name, len(BEFORE))
    assert [row.step for row in record.steps] == list(range(1, len(BEFORE + AFTER) + 1))
    assert record.header.statement == mlrcbench.read_record(parent).header.statement
    footer = mlrcbench.read_record(parent).footer
    assert footer is not None
    assert footer.ending == "restored a snapshot"
    assert all(entry.matches for entry in mlrcbench.rescore(record.directory, secret="my own secret"))
    replay = mlrcbench.replay(record.directory, secret="my own secret", records=tmp_path / "replays")
    # The command that lists the files shows their times, which a replay cannot repeat.
    assert replay.steps == len(BEFORE + AFTER)
    assert replay.difference is not None
    assert replay.difference.startswith(f"step {len(BEFORE) + 1}: ")


def test_a_forked_record_replays_without_a_difference(env: ResearchEnv, tmp_path: Path) -> None:
    """The replay begins with the first step of its parent."""
    env.step(WriteFile("method.py", BETTER))
    env.step(Evaluate())
    (child,) = env.fork()
    with child:
        (grandchild,) = child.fork()
        with grandchild:
            grandchild.step(WriteFile("method.py", PERFECT))
            grandchild.step(Evaluate())
            grandchild.step(Submit())
            record = grandchild.record
    assert record is not None
    replay = mlrcbench.replay(record, records=tmp_path / "replays")
    assert (replay.steps, replay.difference) == (5, None)


def _spend(env: ResearchEnv, seconds: float) -> None:
    """Let the episode seem to have begun earlier."""
    env._keeper.require().meter._started -= seconds


def test_clocks_continue_from_a_snapshot(tmp_path: Path) -> None:
    """Seconds that were used before a snapshot are used after it, and no others."""
    with make(tmp_path, budget={"seconds": 100}) as env:
        env.reset(seed=0)
        _spend(env, 60.0)
        start = env.snapshot()
        _spend(env, 39.0)
        env.restore(start)
        (child,) = env.fork()
        with child:
            for either in (env, child):
                assert 60.0 <= either._keeper.require().meter.seconds < 90.0


def test_saved_snapshots_continue_in_other_environments(played: ResearchEnv, tmp_path: Path) -> None:
    """Everything is in the file; the first environment, its record and its store are not needed."""
    path = tmp_path / "state.snapshot"
    played.snapshot().save(path)
    first = play(played, AFTER)
    played.close()
    start = mlrcbench.load_snapshot(path)
    assert (start.step, start.state.competition) == (len(BEFORE), "_template")
    assert start.best_improvement > 0.0
    with make(tmp_path / "elsewhere", secret="my own secret", reward="shaped") as env:
        env.restore(start)
        (child,) = env.fork()
        with child:
            path.unlink()
            again = env.snapshot()
            assert play(env, AFTER) == first
            assert play(child, AFTER) == first
            again.save(path)
    with make(tmp_path / "elsewhere", secret="my own secret", reward="shaped") as env:
        env.restore(mlrcbench.load_snapshot(path))
        assert play(env, AFTER) == first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reward": "sparse"}, "was taken with reward='shaped'"),
        ({"budget": {"steps": 7}}, "was taken with budget="),
        ({"final": "last"}, "was taken with final='best'"),
        ({"secret": "your own secret"}, "another secret"),
    ],
)
def test_snapshots_of_other_rules_are_refused(
    options: dict[str, Any], message: str, played: ResearchEnv, tmp_path: Path
) -> None:
    """The error names the rule; the running episode continues."""
    start = played.snapshot()
    with make(tmp_path, **{"secret": "my own secret", "reward": "shaped", **options}) as env:
        env.reset(seed=0)
        with pytest.raises(SnapshotError, match=message):
            env.restore(start)
        assert "[exit status 0]" in body(env, Run("true"))


def test_snapshots_end_with_their_store(played: ResearchEnv, tmp_path: Path) -> None:
    """After the last environment is closed, the error says so, and what to do."""
    start = played.snapshot()
    played.close()
    with make(tmp_path, secret="my own secret", reward="shaped") as env:
        with pytest.raises(SnapshotError, match=r"save\(\) a snapshot to keep it"):
            env.restore(start)
        with pytest.raises(SnapshotError, match=r"save\(\) a snapshot to keep it"):
            start.save(tmp_path / "state.snapshot")
        assert not (tmp_path / "state.snapshot").exists()


def test_without_an_episode_there_is_no_state(env: ResearchEnv) -> None:
    """No state exists after the end; a snapshot brings an ended episode back."""
    start = env.snapshot()
    env.step(Submit())
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.snapshot()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.fork(2)
    observation, _ = env.restore(start)
    assert observation["text"].startswith("# A hidden line")
    assert env.step(Submit())[2]


def test_snapshots_lead_between_instances(tmp_path: Path) -> None:
    """Data and answers are those of the snapshot's instance."""
    with make(tmp_path, instances=2) as env:
        env.reset(options={"instance": 0})
        start = env.snapshot()
        first = body(env, Run("md5sum data/*; cat *.md | md5sum"))
        env.reset(options={"instance": 1})
        assert body(env, Run("md5sum data/*; cat *.md | md5sum")) != first
        env.restore(start)
        assert body(env, Run("md5sum data/*; cat *.md | md5sum")) == first


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (Run("truncate -s 10M a b"), "more than 20,000 files or 16,777,216 bytes"),
        (
            Run('python -c \'import os\nfor n in range(3000): os.mkdir("d"), os.chdir("d")\''),
            "deeper than 64",
        ),
        (20_001, "more than 20,000 files"),
    ],
    ids=["sparse", "deep", "many"],
)
def test_hostile_trees_are_refused_and_nothing_is_lost(
    spoil: Run | int, message: str, env: ResearchEnv
) -> None:
    """The error says why; the episode continues, and can return to an earlier snapshot."""
    start = env.snapshot()
    if isinstance(spoil, Run):
        assert "[exit status 0]" in body(env, spoil)
    else:
        for number in range(spoil):
            (env._keeper.require().workspace.root / f"{number}").touch()
    for attempt in (env.snapshot, env.fork):
        with pytest.raises(mlrcbench.WorkspaceError, match=message):
            attempt()
    assert "created" in body(env, WriteFile("new.txt", "x"))
    env.restore(start)
    assert "written" in body(env, Run("echo x > written; ls"))
    assert env.step(Submit())[2]


def test_a_content_that_is_gone_ends_the_episode_as_a_failure(env: ResearchEnv) -> None:
    """It is raised and recorded, and the agent does not read it."""
    start = env.snapshot()
    env.step(WriteFile("method.py", BETTER))
    store = env._keeper.store()
    (store.folder / start.files.workspace["method.py"].content).unlink()
    with pytest.raises(SnapshotError, match="stored file"):
        env.restore(start)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(Submit())
    assert env.record is not None
    footer = mlrcbench.read_record(env.record).footer
    assert footer is not None
    assert footer.ending.startswith("failed: ")
    env.reset(seed=0)
    assert "[exit status 0]" in body(env, Run("true"))


def test_a_fork_whose_files_are_gone_fails_as_infrastructure(env: ResearchEnv) -> None:
    """Its first step raises an exception."""
    (child,) = env.fork()
    with child:
        for digest in env.snapshot().digests():
            (env._keeper.store().folder / digest).unlink()
        with pytest.raises(SnapshotError):
            child.step(Run("true"))
        with pytest.raises(gymnasium.error.ResetNeeded):
            child.step(Run("true"))


def test_snapshots_share_contents(env: ResearchEnv) -> None:
    """Fifty snapshots of a growing workspace keep each change once."""
    for number in range(50):
        path = env._keeper.require().workspace.root / f"{number}.txt"
        path.write_text(f"{number}")
        start = env.snapshot()
    files = [node for node in start.files.workspace.values() if node.kind == "file"]
    contents = os.listdir(env._keeper.store().folder)
    assert len(contents) <= len({node.content for node in files}) + len(start.files.journal) + 1


def test_wrapped_environments_can_be_forked(tmp_path: Path) -> None:
    """`gymnasium.make` wraps the environment; `unwrapped` has the state."""
    env = gymnasium.make("mlrcbench/Template-v0", sandbox=SANDBOX, records=tmp_path)
    env.reset(seed=1)
    core = env.unwrapped
    assert isinstance(core, ResearchEnv)
    (child,) = core.fork()
    with child:
        assert child.spec == core.spec
        _, reward, *_ = child.step(Submit())
        assert np.isfinite(reward)
    env.close()


def test_running_jobs_are_not_part_of_a_snapshot(played: ResearchEnv) -> None:
    """They continue, and end with a restore; what they have printed is a file like any other."""
    assert "job 1 has started" in body(played, StartJob("echo begun; sleep 300"))
    assert "begun" in body(played, WaitJob(1, until="match", pattern="begun"))
    start = played.snapshot()
    (child,) = played.fork(1)
    with child:
        assert "begun" in body(child, ReadFile("outputs/job-1.txt"))
        assert "job 1 does not exist" in body(child, WaitJob(1))
        assert "job 2 has started" in body(child, StartJob("echo mine"))
        assert "exit status 0" in body(child, WaitJob(2))
        child.step(Submit())
        assert child.record is not None
        assert (child.record / "outputs" / "job-1.txt").read_text() == "begun\n"
        assert (child.record / "outputs" / "job-2.txt").read_text() == "mine\n"
    assert "is still running" in body(played, WaitJob(1, max_seconds=0.1))
    before = played.record
    played.restore(start)
    assert before is not None
    assert (before / "outputs" / "job-1.txt").read_text() == "begun\n"
    assert "0" in body(played, Run("pgrep -c -f 'sleep 300'"))
    assert "job 2 has started" in body(played, StartJob("true"))
