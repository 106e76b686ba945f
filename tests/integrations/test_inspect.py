"""Inspect: its own eval plays every competition's task with our tools, scorer and sandbox, offline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("inspect_ai")

import inspect_ai
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import Model, ModelOutput, ModelUsage, get_model
from inspect_ai.solver import generate
from inspect_ai.tool import bash
from inspect_ai.util import registry_create

import mlrcbench
from mlrcbench.integrations import inspect_ai as ours
from mlrcbench.testing.endpoint import ScriptedServer, call

pytestmark = pytest.mark.filterwarnings("default")  # warnings of Inspect are not ours to fix
METHOD = mlrcbench.get_competition("_template").overlay("reference")["method.py"]
WRITE: tuple[str, dict[str, Any]] = ("write_file", {"path": "method.py", "text": METHOD})


def _template(**options: Any) -> Any:
    """The template's task, found as Inspect finds it."""
    return registry_create("task", "mlrcbench/_template", **options)


def _scripted(*calls: tuple[str, dict[str, Any]] | str) -> Model:
    """A model that makes calls; each output states its usage, or Inspect would fetch a tokenizer."""
    outputs = []
    for one in calls:
        if isinstance(one, str):
            output = ModelOutput.from_content("mockllm/model", one)
        else:
            output = ModelOutput.for_tool_call("mockllm/model", one[0], one[1])
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        outputs.append(output)
    return get_model("mockllm/model", custom_outputs=outputs, memoize=False)


def _eval(task: Any, model: Model, folder: Path, **options: Any) -> EvalLog:
    (log,) = inspect_ai.eval(task, model=model, log_dir=str(folder), display="none", **options)
    return log


def _metrics(log: EvalLog) -> dict[str, dict[str, float]]:
    assert log.status == "success", log.error
    return {
        score.name: {name: metric.value for name, metric in score.metrics.items()}
        for score in log.results.scores
    }


def test_every_competition_is_a_task() -> None:
    """It has the name under which Inspect's command line finds it."""
    for card in mlrcbench.list_competitions(hidden=True):
        task = registry_create("task", f"mlrcbench/{card.id.replace('-', '_')}", instances=3)
        assert [sample.id for sample in task.dataset] == [f"{card.id}-{number}" for number in range(3)]


def test_an_eval_has_every_metric(tmp_path: Path) -> None:
    """Improvement, value and validity, on the requested instances; no session stays open."""
    model = _scripted(WRITE, ("evaluate", {}), ("submit", {}), WRITE, ("submit", {}))
    log = _eval(_template(instances=2), model, tmp_path, max_samples=1)
    metrics = _metrics(log)
    assert metrics["improvement"]["mean"] == pytest.approx(1.0, abs=0.1)
    assert metrics["value"]["mean"] == pytest.approx(0.1, abs=0.05)
    assert metrics["valid"]["mean"] == 1.0
    first, second = log.samples
    (dev,) = [event for event in first.events if event.event == "score" and event.scorer == "dev"]
    assert dev.intermediate
    assert dev.score.value == pytest.approx(1.0, abs=0.2)
    assert first.metadata["instance"] != second.metadata["instance"]
    assert "## Actions" in first.messages[0].text
    assert first.scores["test_score"].metadata["steps"] == 3
    assert not ours._sessions


def test_the_workspace_is_scored_when_the_model_has_no_more_messages(tmp_path: Path) -> None:
    """An invalid submission counts as no improvement, not as a value."""
    model = _scripted("I think.", ("write_file", {"path": "method.py", "text": "1 / 0"}), ("evaluate", {}))
    log = _eval(_template(), model, tmp_path, message_limit=6)
    metrics = _metrics(log)
    assert metrics["improvement"]["mean"] == 0.0
    assert metrics["valid"]["mean"] == 0.0
    (sample,) = log.samples
    assert any(ours._CONTINUE in message.text for message in sample.messages)
    assert "exit status 1" in sample.scores["test_score"].explanation


def test_an_episode_has_the_options_of_the_task(tmp_path: Path) -> None:
    """Parts of the budget, the reward and what is scored; wrong ones fail before anything is played."""
    task = _template(steps=2, evaluations=1, reward="shaped", final="last")
    (sample,) = _eval(task, _scripted(WRITE, ("evaluate", {}), ("submit", {})), tmp_path).samples
    score = sample.scores["test_score"]
    header = mlrcbench.read_record(score.metadata["record"]).header
    assert (header.budget.steps, header.budget.evaluations) == (2, 1)
    assert (header.reward, header.final) == ("shaped", "last")
    with pytest.raises(mlrcbench.MlrcbenchError, match="sparse"):
        _template(reward="rich")
    with pytest.raises(mlrcbench.MlrcbenchError):
        _template(steps=0)


def test_errors_are_errors_of_tools(tmp_path: Path) -> None:
    """They have the message of the episode."""
    model = _scripted(("write_file", {"path": "main.py", "text": ""}), ("submit", {}))
    (sample,) = _eval(_template(), model, tmp_path).samples
    (error,) = [message.error for message in sample.messages if getattr(message, "error", None)]
    assert "is protected" in error.message


def test_a_failure_of_the_infrastructure_is_no_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample has an error; a wrong option is refused before there is a sample."""
    monkeypatch.delenv("MLRCBENCH_IMAGE", raising=False)
    log = _eval(_template(kind="container"), _scripted(("submit", {})), tmp_path)
    assert log.status == "error"
    assert "no image is named" in log.error.message
    with pytest.raises(mlrcbench.RegistryError, match="bubblewrap"):
        _template(kind="bubblewrapp")
    assert not ours._sessions


def test_another_solver_has_the_same_tools(tmp_path: Path) -> None:
    """Inspect's plain loop of generate and tools replaces ours."""
    model = _scripted(WRITE, ("submit", {}), "Done.")
    log = _eval(_template(), model, tmp_path, solver=generate(tool_calls="loop"))
    assert _metrics(log)["valid"]["mean"] == 1.0


def test_our_sandbox_serves_inspects_own_tools(tmp_path: Path) -> None:
    """Inspect's bash tool runs in it; the sample's files are there."""
    task = inspect_ai.Task(
        dataset=[inspect_ai.dataset.Sample(input="Look.", files={"a.txt": "content\n"})],
        solver=[inspect_ai.solver.use_tools(bash()), generate(tool_calls="loop")],
        sandbox="mlrcbench",
    )
    model = _scripted(("bash", {"command": "cat a.txt; whoami; id -u"}), "Done.")
    log = _eval(task, model, tmp_path)
    assert log.status == "success", log.error
    (output,) = [message.text for message in log.samples[0].messages if message.role == "tool"]
    assert output.split()[0] == "content"
    assert os.geteuid() != 0 or output.split()[-1] != "0"


def test_the_command_line(tmp_path: Path) -> None:
    """`inspect eval` finds the task by its name, and a model behind an endpoint plays it."""
    pytest.importorskip("openai")
    script = [call(WRITE[0], **WRITE[1]), call("evaluate"), call("submit")]
    with ScriptedServer(script) as server:
        options = ["eval", "mlrcbench/_template", "--model", "openai-api/stub/scripted", "--display", "none"]
        done = subprocess.run(
            [str(Path(sys.executable).with_name("inspect")), *options, "--log-dir", str(tmp_path)],
            env={**os.environ, "STUB_BASE_URL": server.url, "STUB_API_KEY": "none"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("*.eval")
    assert _metrics(read_eval_log(str(path)))["improvement"]["mean"] == pytest.approx(1.0, abs=0.1)
