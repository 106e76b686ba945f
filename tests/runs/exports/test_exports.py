"""Exports: conversations and their scores, in the formats of other tools."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mlrcbench
from mlrcbench.agents import Agent, play
from mlrcbench.agents.prompts import SUMMARY
from mlrcbench.agents.react import CALLS, ReactAgent
from mlrcbench.agents.scripted import ScriptedAgent
from mlrcbench.cli import main
from mlrcbench.errors import RecordError
from mlrcbench.llm import Endpoint
from mlrcbench.protocol.actions import ACTIONS
from mlrcbench.runs.exports import export_inspect, read_episodes
from mlrcbench.testing.endpoint import Answer, ScriptedServer, call, say

METHOD = mlrcbench.get_competition("_template").overlay("reference")["method.py"]
TEXT = '{"action": "run", "command": "ls"}'
BETTER: list[mlrcbench.Action] = [mlrcbench.WriteFile("method.py", METHOD), mlrcbench.Evaluate()]


def played(folder: Path, agent: Agent) -> Path:
    """The record of an episode."""
    with mlrcbench.make("_template", records=folder) as env:
        play(env, agent, seed=0)
        assert env.record is not None
        return env.record


def lines(path: Path) -> list[dict[str, Any]]:
    """The entries of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_record_becomes_a_conversation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Actions are tool calls, observations their results; other text stays as it was written."""
    record = played(tmp_path, ScriptedAgent(["nonsense \ud800", {"action": []}, TEXT, *BETTER]))
    out = tmp_path / "new" / "chat.jsonl"
    assert main(["export", "chat", str(record), "--out", str(out)]) == 0
    assert "1 episodes as 1 conversations" in capsys.readouterr().out
    (line,) = lines(out)
    roles = [message["role"] for message in line["messages"]]
    assert roles == ["user", *["assistant", "user"] * 2, *["assistant", "tool"] * 3, "assistant"]
    assert "A hidden line" in line["messages"][0]["content"]
    assert "One JSON object" not in line["messages"][0]["content"]
    assert line["messages"][1]["content"] == "nonsense ?"
    assert line["messages"][5]["tool_calls"][0]["function"]["name"] == "run"
    (written,) = line["messages"][7]["tool_calls"]
    assert written["function"]["name"] == "write_file"
    assert json.loads(written["function"]["arguments"]) == {"path": "method.py", "text": METHOD}
    assert line["messages"][8]["tool_call_id"] == written["id"]
    assert "dev: root mean" in line["messages"][10]["content"]
    assert [tool["function"]["name"] for tool in line["tools"]] == list(ACTIONS)
    metadata = line["metadata"]
    assert line["reward"] == metadata["test"]["improvement"] > 0.9
    assert metadata["dev"][0]["value"] == mlrcbench.read_record(record).evaluations[0].score.value
    assert (metadata["competition"], metadata["instance"], metadata["ending"]) == (
        "_template",
        0,
        "submitted",
    )
    assert metadata["tokens"] is None


def long_episode(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """An episode whose conversation had to make room, and the requests of its server."""
    number = 0

    def respond(request: dict[str, Any]) -> Answer:
        nonlocal number
        if request["messages"][0]["content"] == SUMMARY:
            return say("Notes.")
        number += 1
        if number == 9:
            return call("submit")
        return call("run", command=f"echo {number}; head -c 3000 /dev/zero | tr '\\0' x")

    with ScriptedServer(respond) as server:
        record = played(folder, ReactAgent(Endpoint("gpt-4o", server.url), context=4_000))
    return record, server.requests


def test_contexts_are_exported_as_they_were_sent(tmp_path: Path) -> None:
    """Each reply is in one line, after exactly what the model had read."""
    record, requests = long_episode(tmp_path)
    out = tmp_path / "chat.jsonl"
    assert main(["export", "chat", str(record), "--out", str(out)]) == 0
    exported = lines(out)
    assert len(exported) > 2
    assert [line["metadata"]["context"] for line in exported] == list(range(1, len(exported) + 1))
    for request in requests:
        sent = request["messages"]
        assert any(line["messages"][: len(sent)] == sent for line in exported)
    assert all(line["messages"][-1]["role"] == "assistant" for line in exported)
    prompt_tokens = sum(entry["usage"]["prompt"] for entry in lines(record / CALLS))
    assert exported[0]["metadata"]["tokens"]["prompt"] == prompt_tokens
    assert exported[0]["metadata"]["money"] > 0

    (episode,) = read_episodes([record])
    calls = [one for message in episode.whole for one in message.get("tool_calls", ())]
    assert [json.loads(one["function"]["arguments"]).get("command", "submit")[:6] for one in calls] == [
        *(f"echo {number}" for number in range(1, 9)),
        "submit",
    ]
    results = [message["content"] for message in episode.whole if message["role"] == "tool"]
    assert len(results) == 8
    assert SUMMARY not in json.dumps(episode.whole)


def test_a_run_becomes_logs_of_inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is one log per agent; trials are epochs; the score is the improvement on test."""
    run = tmp_path / "run"
    mlrcbench.run(["baseline", "reference"], ["_template"], directory=run, trials=2)
    assert main(["export", "inspect", str(run), "--out", str(tmp_path / "logs")]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    logs = {log["eval"]["model"]: log for path in paths for log in [json.loads(path.read_bytes())]}
    assert logs.keys() == {"mlrcbench/baseline", "mlrcbench/reference"}
    assert len({log["eval"]["task_id"] for log in logs.values()}) == 2, "the viewer shows both"
    log = logs["mlrcbench/reference"]
    events = log["samples"][0]["events"]
    assert [one["event"] for one in events][-3:] == ["tool", "score", "tool"]
    assert events[-2]["score"]["value"] > 0.9
    assert [(one["id"], one["epoch"]) for one in log["samples"]] == [(0, 1), (0, 2)]
    values = [one["scores"]["improvement"]["value"] for one in log["samples"]]
    assert log["results"]["scores"][0]["metrics"]["mean"]["value"] == pytest.approx(sum(values) / 2)
    assert values[0] > 0.9
    assert log["samples"][0]["metadata"]["agent"] == "reference"


@pytest.mark.skipif(importlib.util.find_spec("inspect_ai") is None, reason="Inspect is not installed")
def test_inspect_reads_what_is_written(tmp_path: Path) -> None:
    """Inspect reads all kinds of episodes: a model's, one of hostile text, one that broke off."""
    hostile = Answer("a", (("run", '{"command": "\\ud800", "timeout": 1e999}'), ("run", "no JSON")))
    with ScriptedServer([hostile, call("submit")]) as server:
        records = [played(tmp_path, ReactAgent(Endpoint("gpt-4o", server.url)))]
    records += [long_episode(tmp_path)[0], played(tmp_path, ScriptedAgent(["nonsense \ud800\0", *BETTER]))]
    with mlrcbench.make("_template", records=tmp_path) as env:
        env.reset(seed=0)
        env.step(mlrcbench.Run("ls"))
        records.append(env.record or Path())
    paths = export_inspect(read_episodes(records), tmp_path / "logs")
    code = """
import sys
from inspect_ai.log import list_eval_logs, read_eval_log
logs = [read_eval_log(path) for path in sys.argv[2:]]
assert [read_eval_log(path, header_only=True).eval for path in sys.argv[2:]] == [log.eval for log in logs]
print(len(list_eval_logs(sys.argv[1])), sorted(log.eval.model for log in logs))
for log in logs:
    for sample in log.samples:
        kinds = {type(message).__name__ for message in sample.messages}
        assert all(event.event in ("tool", "score") for event in sample.events) and sample.events
        print(sample.scores is not None, sample.error is not None, "ChatMessageAssistant" in kinds)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "logs"), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, *samples = done.stdout.splitlines()
    assert first == "2 ['mlrcbench/gpt-4o', 'mlrcbench/unknown']"
    assert sorted(samples) == ["False True True", *["True False True"] * 3]


def test_what_cannot_be_exported_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is not a record, a file that is not a log of calls, an unknown format."""
    assert main(["export", "chat", str(tmp_path), "--out", str(tmp_path / "a")]) == 2
    assert "name a record's folder" in capsys.readouterr().err
    record = played(tmp_path / "records", ScriptedAgent([]))
    for text in ("[]\n", "{}\n", '{"request": {"messages": 3}}\n', "no\n"):
        (record / CALLS).write_text(text)
        with pytest.raises(RecordError, match="is not a log of calls"):
            read_episodes([record])
    (record / CALLS).write_text('{"torn')
    assert len(read_episodes([record])[0].whole) == 2
    with pytest.raises(SystemExit):
        main(["export", "poem", str(record), "--out", "a"])
