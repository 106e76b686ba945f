"""Every episode of a plan is accounted for, however it ended; and no agent gains by breaking the library."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import mlrcbench
from mlrcbench.catalog.installation import secret_fingerprint
from mlrcbench.cli import main
from mlrcbench.errors import RunError
from mlrcbench.runs import Assignment, Plan, Result, leaderboard, read_results, run
from mlrcbench.runs.episode_process import request_for
from mlrcbench.runs.leaderboard import AGAIN
from mlrcbench.runs.ray_cluster import _play_on_node
from mlrcbench.runs.results import begin_attempt, what_was_recorded, write_result
from mlrcbench.sandbox import Isolation
from mlrcbench.storage.record import EvaluationRecord, Footer, Header, Recorder
from mlrcbench.storage.snapshots.state import SpendingLimits
from tests.env.test_research_env import PERFECT, WORSE
from tests.runs.test_runs import SLEEPER, _below_with_a_sleeper, _start_run, _until

# Plays the first instance, and dies with its worker on others.
_KILLER = """
    import json, os, signal, sys
    for line in sys.stdin:
        if json.loads(line)["info"].get("instance"):
            os.kill(os.getppid(), signal.SIGKILL)
        print('{"action": "submit"}', flush=True)
"""

# Its first attempt on instance 0 has a bad method, all others have a good one. A gambler that sees a bad
# score on dev kills the process that plays its episode.
_GAMBLER = """
    import json, os, pathlib, signal, sys
    gambles, folder = sys.argv[1] == "gamble", pathlib.Path(sys.argv[2])
    for number, line in enumerate(sys.stdin):
        message = json.loads(line)
        if number == 0:
            instance = message["info"]["instance"]
            mark = folder / f"{sys.argv[1]}-{instance}"
            bad = instance == 0 and not mark.exists()
            mark.touch()
            text = (folder / ("bad.py" if bad else "good.py")).read_text()
            action = {"action": "write_file", "path": "method.py", "text": text}
        else:
            if number == 2 and gambles and message["info"]["score"]["improvement"] < 0.5:
                os.kill(os.getppid(), signal.SIGKILL)
            action = [None, {"action": "evaluate"}, {"action": "submit"}][number]
        print(json.dumps(action), flush=True)
"""


@pytest.fixture
def killer(tmp_path: Path) -> str:
    """An agent that kills its worker on every instance but the first."""
    return program(tmp_path, "killer", _KILLER)


def program(folder: Path, name: str, text: str, *arguments: str) -> str:
    """The name of an agent that is a Python script."""
    path = folder / f"{name}.py"
    path.write_text(textwrap.dedent(text))
    return " ".join([f"external:{sys.executable}", str(path), *arguments])


def test_a_worker_that_is_killed_is_a_failure_of_the_infrastructure(
    killer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is in the returned results, on the disk, in the table, in the report, and in the exit status."""
    root = tmp_path / "run"
    seen: list[Result] = []
    results = run([killer], ["_template"], directory=root, instances=2, on_result=seen.append)
    assert [one.outcome for one in results] == ["played", "infrastructure failed"]
    assert sorted(one.outcome for one in seen) == ["infrastructure failed", "played"]
    assert "signal 9" in results[1].reason
    assert read_results(root) == results
    (row,) = leaderboard(results)
    assert row.failures == {"infrastructure failed": 1}
    assert row.mean == pytest.approx(results[0].improvement / 2)
    options = ["--agent", killer, "--instances", "2", "--quiet", "--out", str(root)]
    assert main(["run", "_template", *options]) == 1
    assert "1 infrastructure failed" in capsys.readouterr().out
    assert main(["report", str(root)]) == 0
    assert "1 infrastructure failed" in capsys.readouterr().out


def test_a_node_of_a_cluster_writes_the_same_result(killer: str, tmp_path: Path) -> None:
    """A task of Ray calls the function that the local executor calls."""
    plan = Plan((killer,), ("_template",), instances=2)
    plan.write(tmp_path)
    assignment = list(plan)[1]
    request = request_for(tmp_path, plan, assignment, None)
    begin_attempt(Path(request["folder"]))
    result = _play_on_node(request, secret_fingerprint(None))
    assert (result.assignment, result.outcome) == (assignment, "infrastructure failed")
    assert result.record is not None
    assert [one.outcome for one in read_results(tmp_path)] == ["missing", "infrastructure failed"]


@pytest.mark.parametrize(
    "damage", ["", '{"assignment"', "[]", "null", "{}", '{"outcome": "played"}', "\0" * 9]
)
def test_a_damaged_result_is_named_and_its_episode_played_again(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is neither a crash of the run nor an episode without a result."""
    folder = tmp_path / "episodes" / Assignment("baseline", "_template", 0, 0).name
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(damage)
    Plan(("baseline",), ("_template",)).write(tmp_path)
    with caplog.at_level(logging.WARNING):
        (one,) = read_results(tmp_path)
    assert one.outcome == "missing"
    assert str(folder / "result.json") in caplog.text
    if damage == '{"assignment"':
        (again,) = run(["baseline"], ["_template"], directory=tmp_path)
        assert again.outcome == "played"
        assert json.loads((folder / "result.json").read_text())["outcome"] == "played"


@pytest.mark.parametrize("record", ["/etc", "../../x", "records/..", "records", "records/a/b", "records//a"])
def test_a_result_leads_nowhere_else(record: str, tmp_path: Path) -> None:
    """The record of a result lies in its folder, or the result is damaged."""
    Plan(("baseline",), ("_template",)).write(tmp_path)
    (one,) = Plan(("baseline",), ("_template",))
    folder = tmp_path / "episodes" / one.name
    folder.mkdir()
    write_result(Result(one, "played", "", folder, record="records/x"))
    assert read_results(tmp_path)[0].outcome == "played"
    write_result(Result(one, "played", "", folder, record=record))
    assert read_results(tmp_path)[0].outcome == "missing"


def test_a_second_run_in_a_directory_stops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so, and plays nothing; when the first one is killed, the directory is free."""
    process = _start_run(tmp_path, SLEEPER)
    _until(lambda: _below_with_a_sleeper(process.pid))
    command = ["run", "_template", "--agent", "baseline", "--quiet", "--out", str(tmp_path)]
    assert main(command) == 2
    assert f"another run uses {tmp_path}" in capsys.readouterr().err
    assert len(list(tmp_path.glob("episodes/*"))) == 1
    process.kill()
    process.communicate()
    assert main(command) == 0


def test_a_report_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Episodes of the plan without a result are counted, and are worth the baseline."""
    run(["reference"], ["_template"], directory=tmp_path)
    Plan(("reference",), ("_template",), instances=2, trials=2).write(tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "3 of 4 episodes" in printed.err
    assert "3 missing" in printed.out
    (row,) = leaderboard(read_results(tmp_path))
    assert row.mean == pytest.approx(sum(one.improvement for one in read_results(tmp_path)) / 4)


def test_an_agent_that_breaks_the_library_when_dev_was_bad_gains_nothing(tmp_path: Path) -> None:
    """It gets one more attempt, which counts at most as what the first one had shown."""
    (tmp_path / "bad.py").write_text(WORSE)
    (tmp_path / "good.py").write_text(PERFECT)
    agents = [program(tmp_path, "gambler", _GAMBLER, way, str(tmp_path)) for way in ("honest", "gamble")]
    results = run(agents, ["_template"], directory=tmp_path / "run", instances=2, secret="public", jobs=2)
    honest, gambler = (
        {one.assignment.instance: one for one in results if one.assignment.agent == name} for name in agents
    )
    assert [one.outcome for one in results] == ["played"] * 4
    assert honest[0].improvement < 0
    assert honest[1].improvement > 0.5
    assert gambler[0].test is not None
    assert gambler[0].test["improvement"] > 0.5
    (first,) = gambler[0].attempts
    assert [score["improvement"] for score in first.dev] == [first.limit]
    assert gambler[0].improvement == first.limit
    assert gambler[0].improvement <= honest[0].dev[0]["improvement"]
    assert gambler[1].improvement == honest[1].improvement
    rows = {row.agent: row for row in leaderboard(results)}
    assert rows[agents[1]].failures == {AGAIN: 1}
    assert [one.attempts for one in read_results(tmp_path / "run")] == [one.attempts for one in results]
    command = [sys.executable, "-m", "mlrcbench", "run", "_template", "--agent", *agents]
    options = ["--instances", "2", "--secret", "public", "--out", str(tmp_path / "run")]
    assert subprocess.run([*command, *options], capture_output=True, check=False).returncode == 1


def test_gambling_pays_on_no_average(tmp_path: Path) -> None:
    """In many episodes: whenever the agent breaks the library, leaving the starter as it is pays more."""
    random = np.random.default_rng(0)
    assignment = Assignment("a", "_template", 0, 0)

    def ended(test: float | None, *limits: float) -> float:
        """The improvement after failed attempts with these limits; without `test`, the last one failed."""
        failed = [
            Result(assignment, "infrastructure failed", "", tmp_path, limit=limit, dev=[]) for limit in limits
        ]
        if test is None:
            *earlier, last = failed
            return Result(
                assignment, last.outcome, "", tmp_path, limit=last.limit, attempts=tuple(earlier)
            ).improvement
        score = {"improvement": test, "outcome": "scored"}
        return Result(assignment, "played", "", tmp_path, score, attempts=tuple(failed)).improvement

    quality = random.normal(0.2, 2.0, (4000, 2))
    dev, test = (quality + random.normal(0, 0.1, quality.shape) for _ in range(2))
    honest = np.mean([ended(one) for one in test[:, 0]])
    careful = np.mean(
        [ended(one) if seen > 0 else 0.0 for one, seen in zip(test[:, 0], dev[:, 0], strict=True)]
    )
    for bar in (-1.0, 0.0, 0.5, 2.0):
        after_dev = [
            ended(one[0]) if seen[0] > bar else ended(one[1], seen[0])
            for one, seen in zip(test, dev, strict=True)
        ]
        twice = [
            ended(one[0]) if seen[0] > bar else ended(None, seen[0], max(0.0, seen[1]))
            for one, seen in zip(test, dev, strict=True)
        ]
        before_dev = [
            ended(one[0]) if seen[0] > bar else ended(one[1], 0.0)
            for one, seen in zip(test, dev, strict=True)
        ]
        assert np.mean(after_dev) <= honest
        assert np.mean(twice) <= honest
        assert np.mean(before_dev) <= careful


@pytest.mark.parametrize(
    ("final", "improvements", "limit"),
    [
        ("best", [], 0.0),
        ("best", [None], 0.0),
        ("best", [0.2, None, 0.1], 0.2),
        ("best", [-3.0, -2.0], -2.0),
        ("last", [0.5, -2.0], -2.0),
        ("last", [0.5, None], 0.0),
    ],
)
def test_a_failed_attempt_is_worth_what_it_had_shown(
    final: str, improvements: list[float | None], limit: float, tmp_path: Path
) -> None:
    """As if the agent had stopped there; an attempt in which it had not acted limits nothing."""
    header = Header(
        "c", 0, "mini", 0, "", "own", "", 0, "auto", Isolation("none"),
        SpendingLimits(1, 1.0, 1), "sparse", None, final,
    )  # fmt: skip
    recorder = Recorder(tmp_path / "records" / "one")
    recorder.write(header)
    for number, improvement in enumerate(improvements, 1):
        score = (
            mlrcbench.Score.invalid("x")
            if improvement is None
            else mlrcbench.Score(1.0, improvement=improvement)
        )
        recorder.write(EvaluationRecord(0, "dev", "agent", f"evaluations/{number:03d}-dev", score))
    recorder.close(Footer("failed"))
    assert what_was_recorded(tmp_path, recorder.directory, failed=True)["limit"] is None
    (tmp_path / "acted").touch()
    assert what_was_recorded(tmp_path, recorder.directory, failed=True)["limit"] == limit
    assert what_was_recorded(tmp_path, recorder.directory, failed=False)["limit"] is None


@pytest.mark.parametrize(
    ("agents", "competitions", "message"),
    [
        ("baseline", ["_template"], "give a list"),
        (["baseline"], "_template", "give a list"),
        ([object()], ["_template"], "external:COMMAND"),
        (["external:"], ["_template"], "no command"),
        (["external:'"], ["_template"], "cannot be split"),
    ],
)
def test_wrong_names_are_refused(agents: object, competitions: object, message: str, tmp_path: Path) -> None:
    """With a sentence, before anything is written."""
    with pytest.raises(RunError, match=message):
        run(agents, competitions, directory=tmp_path / "run")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """It is a file, or lies below one."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError, match="cannot be written"):
            run(["baseline"], ["_template"], directory=path)
