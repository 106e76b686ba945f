"""Records: readable without the library, replayed and scored again, torn lines ignored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mlrcbench
from mlrcbench import Evaluate, ReadFile, Run, Submit, WriteFile
from tests.test_env import PERFECT, make

ACTIONS = [
    Run("python main.py; echo $((1 + 1))"),
    "nonsense",
    None,
    b"bytes",
    " " * 5_000_000,
    ReadFile("../x"),
    WriteFile("method.py", PERFECT),
    Run("seq 1 20000"),
    ReadFile("outputs/step-0008.txt", start=100, end=101),
    Evaluate(),
    Submit(),
]


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """The record of an eventful episode."""
    with make(tmp_path, secret="mine", reward="shaped") as env:
        env.reset(seed=0)
        for action in ACTIONS:
            env.step(action)
        assert env.record is not None
        return env.record


def test_it_can_be_read_without_the_library(record: Path) -> None:
    """One JSON object a line; what was scored lies beside it."""
    lines = [json.loads(line) for line in (record / "record.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == [
        "header",
        *["step"] * 9,
        "evaluation",
        "step",
        "evaluation",
        "step",
        "footer",
    ]
    assert lines[0]["isolation"]["enforced"]
    assert lines[0]["secret"] == "own"
    assert lines[-1]["ending"] == "submitted"
    kept = record / "evaluations" / "001-dev"
    assert (kept / "workspace" / "method.py").read_text() == PERFECT
    assert np.load(kept / "artefacts" / "predictions.npy").shape == (100,)
    assert lines[0]["statement"].startswith("# A hidden line")
    assert "mine" not in (record / "record.jsonl").read_text()


def test_it_replays(record: Path, tmp_path: Path) -> None:
    """Every observation and score is the same; a changed line is found."""
    found = mlrcbench.replay(record, secret="mine", records=tmp_path / "replays")
    assert (found.steps, found.difference) == (len(ACTIONS), None)
    path = record / "record.jsonl"
    path.write_text(path.read_text().replace("exit status 0", "exit status 1", 1))
    found = mlrcbench.replay(record, secret="mine", records=tmp_path / "replays")
    assert found.difference is not None
    assert found.difference.startswith("step 1: line ")
    assert "exit status 1" in found.difference


def test_a_forged_score_is_found(record: Path, tmp_path: Path) -> None:
    """By a replay, and by scoring the artefacts again."""
    assert all(entry.matches for entry in mlrcbench.rescore(record, secret="mine"))
    path = record / "record.jsonl"
    lines = path.read_text().splitlines()
    number = next(n for n, line in enumerate(lines) if '"split": "test"' in line)
    entry = json.loads(lines[number])
    entry["score"]["value"] = 0.0
    lines[number] = json.dumps(entry)
    path.write_text("\n".join(lines) + "\n")
    assert [entry.matches for entry in mlrcbench.rescore(record, secret="mine")] == [True, False]
    difference = mlrcbench.replay(record, secret="mine", records=tmp_path / "replays").difference
    assert difference is not None
    assert difference.startswith("evaluations/002-test: the score was")


def test_scoring_again_trusts_no_kept_file(record: Path) -> None:
    """A kept artefact that became a link is refused like any other."""
    path = record / "evaluations" / "001-dev" / "artefacts" / "predictions.npy"
    path.unlink()
    path.symlink_to("/etc/passwd")
    again = mlrcbench.rescore(record, secret="mine")[0]
    assert again.again is not None
    assert "plain file" in again.again.reason


def test_another_secret_is_refused(record: Path) -> None:
    """The instance is another one: said, not scored."""
    with pytest.raises(mlrcbench.RecordError, match="pass it as secret="):
        mlrcbench.replay(record)
    with pytest.raises(mlrcbench.RecordError, match="another secret"):
        mlrcbench.replay(record, secret="yours")


def test_a_torn_record_is_read_up_to_the_tear(record: Path) -> None:
    """A crash costs at most the line that was being written."""
    path = record / "record.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    read = mlrcbench.read_record(record)
    assert len(read.steps) == len(ACTIONS)
    assert read.footer is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "begin with a header"),
        ('{"kind": "step"}\n', "begin with a header"),
        ("nonsense\n", "line 1 is not JSON"),
        ('{"kind": "header", "version": 99}\n', "version 99"),
    ],
)
def test_what_is_no_record_is_refused(text: str, words: str, tmp_path: Path) -> None:
    """With the reason."""
    (tmp_path / "record.jsonl").write_text(text)
    with pytest.raises(mlrcbench.RecordError, match=words):
        mlrcbench.read_record(tmp_path)
    with pytest.raises(mlrcbench.RecordError, match="cannot be read"):
        mlrcbench.read_record(tmp_path / "nowhere")


def test_an_episode_that_was_not_finished_says_so(tmp_path: Path) -> None:
    """Closed or reset before its end."""
    with make(tmp_path) as env:
        env.reset(seed=0)
        first = env.record
        env.reset(seed=0)
        second = env.record
    assert first is not None
    assert second is not None
    endings = [mlrcbench.read_record(path).footer for path in (first, second)]
    assert [footer["ending"] for footer in endings if footer] == ["reset", "closed"]
