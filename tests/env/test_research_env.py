"""The environment follows Gymnasium's contract exactly, and the protocol of an episode."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import mlrcbench
from mlrcbench import EditFile, Evaluate, ReadFile, Run, Submit, WriteFile
from mlrcbench.env.episode import Episode
from mlrcbench.storage import record
from tests.conftest import SANDBOX, body

ID = "mlrcbench/Template-v0"


def _method(result: str) -> str:
    """A method file of three logical lines."""
    return f"import numpy as np\n\n\ndef predict(train, x):\n    return {result}\n"


BETTER = _method("0.3 * np.polyval(np.polyfit(*train.T, 1), x) + 0.7 * train[:, 1].mean()")
PERFECT = _method("np.polyval(np.polyfit(*train.T, 1), x)")
WORSE = _method("np.full(len(x), 9.0)")


def make(tmp_path: Path, **options: Any) -> mlrcbench.ResearchEnv:
    """The template's environment with options."""
    return mlrcbench.make("_template", **{"sandbox": SANDBOX, "records": tmp_path / "records", **options})


def test_gymnasiums_own_checker_passes(tmp_path: Path) -> None:
    """The checker passes with all its rules, and without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(ID, sandbox=SANDBOX, records=tmp_path, render_mode="ansi")
        check_env(env.unwrapped)
        env.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vectors_work(mode: str, tmp_path: Path) -> None:
    """Four environments take sampled actions, end, and begin again."""
    vector = mlrcbench.make_vec("_template", 4, vectorization_mode=mode, sandbox=SANDBOX, records=tmp_path)
    try:
        observation, _ = vector.reset(seed=1)
        assert all("A hidden line" in text for text in observation["text"])
        vector.action_space.seed(0)
        observation, _, _, _, _ = vector.step(vector.action_space.sample())
        assert observation["steps_left"].ravel().tolist() == [19] * 4
        _, rewards, terminated, _, _ = vector.step(tuple(['{"action": "submit"}'] * 4))
        assert terminated.all()
        assert len(set(rewards)) == 1
        observation, *_ = vector.step(tuple(['{"action": "submit"}'] * 4))
        assert all("A hidden line" in text for text in observation["text"])
    finally:
        vector.close()


def test_specs_survive_their_json_form() -> None:
    """Workers can rebuild the environment from it."""
    spec = gymnasium.spec(ID)
    again = gymnasium.envs.registration.EnvSpec.from_json(spec.to_json())
    assert again.kwargs == {"competition": "_template"}
    assert again.entry_point == "mlrcbench.env:ResearchEnv"


def test_whatever_is_returned_lies_in_the_spaces(env: mlrcbench.ResearchEnv) -> None:
    """The spaces contain the observations of all kinds of actions, and the actions."""
    env.action_space.seed(0)
    samples = [env.action_space.sample() for _ in range(4)]
    for action in [*samples, "nonsense", Run("echo ü; printf '\\0\\377'"), {"action": "evaluate"}]:
        assert action in env.action_space
        observation, reward, terminated, truncated, info = env.step(action)
        assert observation in env.observation_space
        assert isinstance(reward, float)
        assert (terminated, truncated) == (False, False)
        json.dumps(info)


def test_the_best_on_dev_is_scored_on_test(tmp_path: Path) -> None:
    """Later, worse evaluations and later, worse files do not matter; with final="last" they do."""
    rewards = {}
    for final in ("best", "last"):
        with make(tmp_path, final=final) as env:
            env.reset(seed=0)
            for text in (PERFECT, WORSE):
                env.step(WriteFile("method.py", text))
                env.step(Evaluate())
            _, rewards[final], terminated, _, info = env.step(Submit())
            assert terminated
            assert info["test_score"]["improvement"] == pytest.approx(rewards[final])
    assert rewards["best"] > 0.9
    assert rewards["last"] < -1


def test_shaped_rewards_sum_to_the_sparse_return(tmp_path: Path) -> None:
    """The same actions have the same return under both schemes."""
    better, perfect = (WriteFile("method.py", text) for text in (BETTER, PERFECT))
    script = [better, Evaluate(), perfect, Evaluate(), Submit()]
    returns: dict[str, list[float]] = {}
    for scheme in ("sparse", "shaped"):
        with make(tmp_path, reward=scheme) as env:
            env.reset(seed=0)
            returns[scheme] = [float(env.step(action)[1]) for action in script]
    assert returns["sparse"][:-1] == [0.0] * 4
    assert returns["shaped"][3] > 0.5
    assert sum(returns["shaped"]) == pytest.approx(sum(returns["sparse"]))


def test_an_invalid_submission_is_worth_the_baseline(env: mlrcbench.ResearchEnv) -> None:
    """Its reward is 0, as for doing nothing, and the score says why."""
    env.step(WriteFile("method.py", "raise SystemExit(3)\n"))
    text = body(env, Evaluate())
    assert "dev: invalid: 'python main.py predict' ended with exit status 3" in text
    _, reward, terminated, _, info = env.step(Submit())
    assert (reward, terminated) == (0.0, True)
    assert info["test_score"]["outcome"] == "invalid"


def test_steps_run_out(tmp_path: Path) -> None:
    """The last step truncates, names the reason, and scores the present files."""
    with make(tmp_path, budget={"steps": 2}) as env:
        env.reset(seed=0)
        env.step(WriteFile("method.py", PERFECT))
        observation, reward, terminated, truncated, info = env.step("nonsense")
        assert (terminated, truncated, info["truncated_by"]) == (False, True, "steps")
        assert reward > 0.9
        assert "left: 0 steps" in observation["text"]
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(Submit())


def test_an_episode_ends_before_its_record_is_too_long_to_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last state is scored, as at the end of any budget."""
    monkeypatch.setattr(record, "FULL_RECORD_BYTES", 500_000)
    with make(tmp_path) as env:
        env.reset(seed=0)
        env.step(WriteFile("method.py", PERFECT))
        assert not env.step("x" * 400_000)[3]
        assert not env.step("x" * 400_000)[3]
        _, reward, terminated, truncated, info = env.step("x")
        assert (terminated, truncated, info["truncated_by"]) == (False, True, "record")
        assert reward > 0.9


def test_seconds_run_out(tmp_path: Path) -> None:
    """A command cannot outlast the budget, and the episode ends with it."""
    with make(tmp_path, budget={"seconds": 1.0}) as env:
        env.reset(seed=0)
        observation, _, terminated, truncated, info = env.step(Run("sleep 5; echo outlasted"))
        assert (terminated, truncated, info["truncated_by"]) == (False, True, "seconds")
        assert "stopped: it reached" in observation["text"]
        assert "outlasted" not in observation["text"]


def test_evaluations_run_out_without_ending_the_episode(tmp_path: Path) -> None:
    """The agent reads an error, and can continue."""
    with make(tmp_path, budget={"evaluations": 1}) as env:
        env.reset(seed=0)
        assert body(env, Evaluate()).startswith("dev: ")
        assert "error: no evaluations are left" in body(env, Evaluate())
        assert "[exit status 0]" in body(env, Run("true"))


def test_how_a_command_ends_is_a_result(env: mlrcbench.ResearchEnv) -> None:
    """The observation reports an exit status, a signal or a time limit; nothing is raised."""
    assert "[exit status 3]" in body(env, Run("exit 3"))
    assert "[exit status 137]" in body(env, Run("kill -9 $$"))
    assert "[exit status 127]" in body(env, Run("no-such-program"))
    assert "stopped: it reached its time limit of 1 s" in body(env, Run("sleep 60", timeout=1))
    assert body(env, Run("cat")).startswith("[exit status 0]")


def test_commands_are_stateless(env: mlrcbench.ResearchEnv) -> None:
    """Only files persist between commands."""
    body(env, Run("export A=1; cd /; echo kept > $OLDPWD/kept.txt"))
    assert body(env, Run("echo A=$A; cat kept.txt")).startswith("A=\nkept\n")


def test_no_variable_of_the_host_reaches_a_command(
    env: mlrcbench.ResearchEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key or token reaches agent code."""
    monkeypatch.setenv("SOME_API_KEY", "very secret")
    assert "very secret" not in body(env, Run("env"))


def test_long_output_is_cut_and_kept(env: mlrcbench.ResearchEnv) -> None:
    """The observation has head, tail and the number of bytes left out; a file has all of it."""
    text = body(env, Run("seq 1 50000"))
    assert text.startswith("1\n2\n")
    assert "bytes left out; the whole output is in outputs/step-0001.txt" in text
    assert "\n50000\n[exit status 0]" in text
    assert "30000" in body(env, ReadFile("outputs/step-0001.txt", start=29_999, end=30_001))
    assert "reserved" in body(env, WriteFile("outputs/step-0001.txt", "x"))


@pytest.mark.parametrize(
    "action",
    [
        ReadFile("/etc/passwd"),
        ReadFile("x" * 4000),
        WriteFile("../x", "x"),
        WriteFile("main.py", "x"),
        EditFile("method.py", "np", "x"),
        '{"action": "read_file", "path": "' + "x" * 10_000_000 + '"}',
        {"action": "write_file", "path": "a", "text": "x" * 20_000_000},
        {"action": "run", "command": "x" * 200_000},
        {"action": "run", "command": "echo \0"},
        17,
        None,
        ["run"],
        b"run",
    ],
    ids=range(13),
)
def test_impossible_actions_cost_a_step_and_nothing_else(env: mlrcbench.ResearchEnv, action: Any) -> None:
    """The observation is an error that says what is wrong; the episode continues."""
    observation, reward, terminated, truncated, info = env.step(action)
    assert observation["text"].startswith("error: ")
    assert len(observation["text"]) < 2_000
    assert info["error"]
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert observation["steps_left"] == [19]
    assert "[exit status 0]" in body(env, Run("true"))


def test_evaluating_hides_and_forgets(env: mlrcbench.ResearchEnv) -> None:
    """Inputs exist during an evaluation only, and no file that an evaluation writes comes back."""
    assert "No such file" in body(env, Run("ls inputs"))
    env.step(WriteFile("method.py", f"open('trace.txt', 'w').write('x')\n{PERFECT}"))
    assert body(env, Evaluate()).startswith("dev: root mean squared error 0.")
    assert "No such file" in body(env, Run("ls trace.txt inputs artefacts"))


def test_the_host_may_evaluate_without_cost(env: mlrcbench.ResearchEnv) -> None:
    """The host can evaluate on both splits; the agent's budget and best score stay the same."""
    env.step(WriteFile("method.py", PERFECT))
    dev, test = env.evaluate("dev"), env.evaluate("test")
    assert dev.improvement is not None
    assert dev.improvement > 0.9
    assert (dev.split, test.split) == ("dev", "test")
    assert dev.value != test.value
    assert dev.wall_seconds > 0
    assert dev.cpu_seconds > 0
    assert dev.peak_memory_bytes > 1 << 20
    assert (dev.logical_lines, dev.logical_lines_single) == (3, 3)
    observation, *_ = env.step(Run("true"))
    assert observation["evaluations_left"] == [5]
    assert observation["best_improvement"] == [0.0]


def test_instances_are_drawn_from_the_pool(tmp_path: Path) -> None:
    """The same seed draws the same instance, an option chooses one, and a wrong option is named."""
    with make(tmp_path, instances=range(5, 9)) as env:
        drawn = [env.reset(seed=seed)[1]["instance"] for seed in range(12)]
        assert set(drawn) <= {5, 6, 7, 8}
        assert len(set(drawn)) > 1
        assert [env.reset(seed=seed)[1]["instance"] for seed in range(12)] == drawn
        assert env.reset(options={"instance": 6})[1]["instance"] == 6
        with pytest.raises(mlrcbench.RegistryError, match="no option 'instanc'"):
            env.reset(options={"instanc": 6})
    with pytest.raises(mlrcbench.RegistryError, match="pool"):
        make(tmp_path, instances=[])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tier": "ful"}, "no tier"),
        ({"final": "first"}, "final cannot be"),
        ({"reward": "dense"}, "unknown reward"),
        ({"render_mode": "human"}, "unknown render mode"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    """They are refused when the environment is made."""
    with pytest.raises(mlrcbench.RegistryError, match=message):
        make(tmp_path, **options)


def test_rendering_is_the_last_observation(tmp_path: Path) -> None:
    """Rendering returns its text, if the mode is "ansi"."""
    with make(tmp_path, render_mode="ansi") as env:
        observation, _ = env.reset(seed=0)
        assert env.render() == observation["text"]
    with make(tmp_path) as env:
        env.reset(seed=0)
        assert env.render() is None


def test_two_runs_of_the_same_actions_are_equal(tmp_path: Path) -> None:
    """Observations, rewards and infos are equal, letter by letter."""
    runs = []
    for _ in range(2):
        with make(tmp_path) as env:
            run: list[Any] = [env.reset(seed=4)]
            script = [Run("python main.py; pwd; ls"), WriteFile("method.py", PERFECT), Evaluate(), Submit()]
            run.extend(env.step(action) for action in script)
            runs.append(run)
    for left, right in zip(*runs, strict=True):
        for a, b in itertools.zip_longest(left, right):
            if isinstance(a, dict) and "text" in a:
                assert a["text"].rpartition("\n")[0] == b["text"].rpartition("\n")[0]
                assert np.array_equal(a["best_improvement"], b["best_improvement"])
            else:
                assert a == b


def test_closing_leaves_nothing_and_twice_is_fine(tmp_path: Path) -> None:
    """The workspace is removed, the record stays, and a step asks for a reset."""
    env = make(tmp_path)
    env.reset(seed=0)
    text = body(env, Run("python -c 'import os; print(os.getcwd() == os.path.realpath(\".\"))'"))
    assert text.startswith("True")
    folder = env._keeper._folder.path
    assert list(folder.iterdir())
    env.close()
    env.close()
    assert not folder.exists()
    assert env.record is not None
    assert (env.record / "record.jsonl").exists()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(Submit())


def test_a_failing_scorer_is_the_librarys_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is raised and recorded, never scored as the agent's."""
    monkeypatch.setenv("MLRCBENCH_HOME", str(tmp_path / "home"))  # so that other tests keep their answers
    with make(tmp_path) as env:
        env.reset(seed=0)
        answers = env._keeper.require().instance.answers("dev") / "y.npy"
        answers.chmod(0o644)
        answers.write_bytes(b"no array")
        with pytest.raises(mlrcbench.ScoringError, match="scorer failed on dev"):
            env.step(Evaluate())
        assert env.record is not None
        footer = mlrcbench.read_record(env.record).footer
        assert footer is not None
        assert footer.ending.startswith("failed: ")
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(Submit())


def test_an_interruption_while_an_episode_begins_is_not_lost(
    env: mlrcbench.ResearchEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes before the environment has the episode; the reset fails, and no process is left."""

    class Interrupted(Episode):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            env.interrupt("the host ends")

    monkeypatch.setattr("mlrcbench.env.keeper.Episode", Interrupted)
    with pytest.raises(mlrcbench.SandboxError, match="the host ends"):
        env.reset(seed=0)
    env.close()
    assert env.record is not None
    assert "the host ends" in (env.record / "record.jsonl").read_text()
