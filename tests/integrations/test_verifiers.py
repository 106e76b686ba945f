"""verifiers: its own evaluation plays our taskset against an endpoint, and reads the rewards."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verifiers.v1")

import mlrcbench
import mlrcbench_vf
from mlrcbench.integrations.verifiers import ResearchTaskset, with_signature
from mlrcbench.testing.endpoint import Answer, ScriptedServer, call, say

LINE = """import numpy as np


def predict(train, x):
    known, heights = train.T
    return np.polyval(np.polyfit(known, heights, 1), x)
"""
PLAN = (
    call("write_file", path="method.py", text=LINE),
    call("run", command="read x; echo it ended"),
    call("evaluate"),
    call("submit"),
)


def _script(request: dict[str, Any]) -> Answer:
    """The plan's next call, by the number of answered ones; rollouts share the server."""
    done = sum(message["role"] == "tool" for message in request["messages"])
    return PLAN[done] if done < len(PLAN) else say("Done.")


def test_the_loader_finds_one_taskset() -> None:
    """The top-level module, which verifiers imports, exports it by `__all__`."""
    assert [getattr(mlrcbench_vf, name) for name in mlrcbench_vf.__all__] == [ResearchTaskset]


def test_tools_have_the_actions_arguments() -> None:
    """Names, defaults and descriptions are those that a model sees elsewhere."""
    for spec in mlrcbench.tool_specs():
        function = with_signature(lambda: None, spec)
        schema = spec["parameters"]
        arguments = inspect.signature(function).parameters
        assert list(arguments) == list(schema["properties"])
        required = [name for name, one in arguments.items() if one.default is inspect.Parameter.empty]
        assert required == schema["required"]
        for name, one in arguments.items():
            assert one.annotation.__metadata__[0].description == schema["properties"][name]["description"]


@pytest.mark.slow
def test_an_evaluation_plays_two_instances(tmp_path: Path) -> None:
    """Its own loop, harness and tool servers win the episodes, and leave nothing running."""
    options = ["mlrcbench-vf", "--env.taskset.competition", "_template", "--env.taskset.instances", "2"]
    options += ["-n", "2", "-m", "stub", "--client.api-key-var", "STUB_KEY", "--no-push"]
    options += ["--env.agent.harness.id", "null", "--env.agent.runtime.type", "subprocess"]
    programs = Path(sys.executable).parent
    environment = {**os.environ, "STUB_KEY": "none", "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    with ScriptedServer(_script) as server:
        subprocess.run(
            [
                str(programs / "vf-eval"),
                *options,
                "--client.base-url",
                server.url,
                "--output-dir",
                str(tmp_path),
            ],
            cwd=tmp_path,
            env=environment,
            check=True,
        )
    (traces,) = tmp_path.rglob("traces.jsonl")
    text = traces.read_text()
    assert len(text.splitlines()) == 2
    for line in text.splitlines():
        assert "it ended" in line
        assert float(_find(json.loads(line), "submitted")) == 1.0
        assert float(_find(json.loads(line), "improvement")) > 0.9


@pytest.mark.slow
def test_the_reference_is_valid_gold(tmp_path: Path) -> None:
    """The program that validates tasksets finds that the reference is rewarded and doing nothing is not."""
    options = ["mlrcbench-vf", "--taskset.competition", "_template", "-n", "1", "--rich", "False"]
    options += ["--runtime.type", "subprocess", "-o", str(tmp_path)]
    program = Path(sys.executable).with_name("vf-validate")
    environment = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([str(program), *options], cwd=tmp_path, env=environment, check=True)
    (results,) = tmp_path.rglob("results.jsonl")
    (row,) = map(json.loads, results.read_text().splitlines())
    assert (row["gold"]["valid"], row["noop"]["valid"]) == (True, True)


def _find(value: Any, key: str) -> Any:
    """The first value of a key at any depth; of a dictionary its first value."""
    if isinstance(value, dict):
        if key in value:
            inner = value[key]
            return inner if not isinstance(inner, dict) else next(iter(inner.values()))
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            inner = _find(one, key)
            if inner is not None:
                return inner
    return None
