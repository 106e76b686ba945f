"""Objects of Python as agents of a run: where they come from, what they may do, how they fail."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mlrcbench
from mlrcbench.agents import play
from mlrcbench.agents.named import make_agent
from mlrcbench.errors import AgentError, RegistryError, RunError

TEMPLATE = ["_template"]
AGENTS = """
    import threading
    from pathlib import Path

    from mlrcbench import Evaluate, Run, Submit
    from mlrcbench.llm import Usage


    class Counter:
        '''Runs as many commands as it was told, evaluates, submits.'''

        def __init__(self, commands=1, name=None):
            self.left, self.spent = commands, Usage(prompt=7)
            if name is not None:
                self.name = name

        def begin(self, record):
            self.record = Path(record)

        def act(self, observation, info):
            self.left -= 1
            if self.left >= 0:
                return Run("echo hello")
            return Evaluate() if self.left == -1 else {"action": "submit"}

        def close(self):
            (self.record / "closed").touch()


    class Broken:
        def act(self, observation, info):
            raise ValueError("what is wrong")


    class Leaver:
        def act(self, observation, info):
            raise SystemExit("goodbye")


    class Unready:
        def __init__(self):
            raise KeyError("weights")

        def act(self, observation, info):
            return Submit()


    class Holder:
        def __init__(self):
            self.lock = threading.Lock()

        def act(self, observation, info):
            return Submit()


    def build():
        return Counter(2)
"""


@pytest.fixture
def agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A user's module of agents, in a folder from which modules are imported."""
    (tmp_path / "my_agents.py").write_text(textwrap.dedent(AGENTS))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("my_agents")
    del sys.modules["my_agents"]


def test_each_episode_has_a_fresh_copy_of_an_instance(agents: Any, tmp_path: Path) -> None:
    """It begins and closes with its episode, says what its model used, and has the name that it gives."""
    mine = [agents.Counter(3, name="three")]
    out = tmp_path / "run"
    results = mlrcbench.run(mine, TEMPLATE, directory=out, trials=2)
    assert {one.outcome for one in results} == {"played"}, [one.reason for one in results]
    steps = {(one.assignment.agent, one.assignment.trial): one.steps for one in results}
    assert steps == {
        ("my_agents:Counter+three", 0): 5,
        ("my_agents:Counter+three", 1): 5,
    }
    for one in results:
        assert (one.folder / str(one.record) / "closed").exists()
        assert one.usage is not None
        assert one.usage["prompt"] == 7
    assert mlrcbench.run(mine, TEMPLATE, directory=out, trials=2) == results, "nothing is played again"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("Broken", "ValueError: what is wrong"), ("Leaver", "SystemExit: goodbye"), ("Unready", "KeyError")],
)
def test_an_exception_is_the_agents_failure(agents: Any, tmp_path: Path, name: str, reason: str) -> None:
    """It counts as the baseline and is not played again; the log has the whole traceback."""
    (one,) = mlrcbench.run([getattr(agents, name)], TEMPLATE, directory=tmp_path / "run")
    assert (one.outcome, one.improvement, one.attempts) == ("agent failed", 0.0, ())
    assert reason in one.reason
    assert "my_agents.py" in (one.folder / "log.txt").read_text()


def test_what_a_process_could_not_have_is_refused(agents: Any, tmp_path: Path) -> None:
    """The sentence says what to do, before anything is played or written."""

    class Local:
        def act(self, observation: dict[str, Any], info: dict[str, Any]) -> str:
            return "{}"

    cases: list[tuple[Any, str]] = [
        ([Local()], "top of a file of its own"),
        ([Local], "top of a file of its own"),
        ([object()], "objects with a method `act`, not object"),
        ([agents.Holder()], "cannot be sent"),
        ([agents.Counter(1), agents.Counter(2)], "two agents are called my_agents:Counter"),
        ([agents.Counter(1), agents.Counter], "two agents are called my_agents:Counter"),
        ([agents.Counter(1, name="a b")], "letters, digits"),
        (agents.Counter(), "give a list"),
        ("baseline", "give a list"),
        (["my_agents:Counter+three"], "give the object itself"),
        (["my_agents:Missing"], "cannot be imported"),
    ]
    for given, message in cases:
        with pytest.raises((RunError, RegistryError), match=message):
            mlrcbench.run(given, TEMPLATE, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_class_of_the_program_itself_is_refused(tmp_path: Path) -> None:
    """The program's own module has another name in an episode's process."""
    text = """
        import mlrcbench

        class Mine:
            def act(self, observation, info):
                return mlrcbench.Submit()

        mlrcbench.run([Mine()], ["_template"], directory="run")
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(text))
    ended = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert "cannot import the agent __main__:Mine: define the class at the top of a file" in ended.stderr


def test_the_command_line_finds_an_agent_in_its_folder(agents: Any, tmp_path: Path) -> None:
    """With a directory for the results and without; the budget's options are those of the episode."""
    command = [sys.executable, "-m", "mlrcbench", "run", "_template", "--agent", "my_agents:build"]
    for options in (["--steps", "2", "--records", "records"], ["--out", "run", "--evaluations", "1"]):
        ended = subprocess.run(
            [*command, *options], cwd=tmp_path, check=False, capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stderr
    (record,) = (mlrcbench.read_record(path) for path in (tmp_path / "records").iterdir())
    assert (record.header.budget.steps, len(record.steps)) == (2, 2)
    (one,) = mlrcbench.read_results(tmp_path / "run")
    assert (one.assignment.agent, one.outcome, one.steps) == ("my_agents:build", "played", 4)


def test_an_agent_by_name_plays_in_this_process(agents: Any, env: mlrcbench.ResearchEnv) -> None:
    """Its failure is an exception of one kind."""
    template = mlrcbench.get_competition("_template")
    assert play(env, make_agent("my_agents:Counter", template), seed=0).number == 3
    with pytest.raises(AgentError, match="what is wrong"):
        play(env, make_agent("my_agents:Broken", template), seed=0)
