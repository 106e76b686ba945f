"""Records: readable without the library, replayed and scored again, torn lines ignored."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import mlrcbench
from mlrcbench import Evaluate, ReadFile, Run, Submit, WriteFile
from mlrcbench.errors import SandboxError
from mlrcbench.storage.record import Footer, Recorder
from tests.env.test_research_env import PERFECT, make

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
    with make(tmp_path, secret="my own secret", reward="shaped") as env:
        env.reset(seed=0)
        for action in ACTIONS:
            env.step(action)
        assert env.record is not None
        return env.record


def test_it_can_be_read_without_the_library(record: Path) -> None:
    """Each line is a JSON object; the files that were scored lie next to it."""
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
    folder = record / "evaluations" / "001-dev"
    assert (folder / "workspace" / "method.py").read_text() == PERFECT
    assert np.load(folder / "artefacts" / "predictions.npy").shape == (100,)
    assert lines[0]["statement"].startswith("# A hidden line")
    assert "mine" not in (record / "record.jsonl").read_text()


def test_it_replays(record: Path, tmp_path: Path) -> None:
    """Every observation and score is the same; a changed line is found."""
    replay = mlrcbench.replay(record, secret="my own secret", records=tmp_path / "replays")
    assert (replay.steps, replay.difference) == (len(ACTIONS), None)
    path = record / "record.jsonl"
    path.write_text(path.read_text().replace("exit status 0", "exit status 1", 1))
    replay = mlrcbench.replay(record, secret="my own secret", records=tmp_path / "replays")
    assert replay.difference is not None
    assert replay.difference.startswith("step 1: line ")
    assert "exit status 1" in replay.difference


def test_a_forged_score_is_found(record: Path, tmp_path: Path) -> None:
    """A replay finds it, and so does scoring the artefacts again."""
    assert all(entry.matches for entry in mlrcbench.rescore(record, secret="my own secret"))
    path = record / "record.jsonl"
    lines = path.read_text().splitlines()
    number = next(n for n, line in enumerate(lines) if '"split": "test"' in line)
    entry = json.loads(lines[number])
    entry["score"]["value"] = 0.0
    lines[number] = json.dumps(entry)
    path.write_text("\n".join(lines) + "\n")
    assert [entry.matches for entry in mlrcbench.rescore(record, secret="my own secret")] == [True, False]
    difference = mlrcbench.replay(record, secret="my own secret", records=tmp_path / "replays").difference
    assert difference is not None
    assert difference.startswith("evaluations/002-test: the score was")


def test_scoring_again_trusts_no_kept_file(record: Path) -> None:
    """A kept artefact that became a link is refused like any other."""
    path = record / "evaluations" / "001-dev" / "artefacts" / "predictions.npy"
    path.unlink()
    path.symlink_to("/etc/passwd")
    again = mlrcbench.rescore(record, secret="my own secret")[0]
    assert again.again is not None
    assert "plain file" in again.again.reason


def test_another_secret_is_refused(record: Path) -> None:
    """The instance is another one, so the record is refused with the reason, and not scored."""
    with pytest.raises(mlrcbench.RecordError, match="pass it as secret="):
        mlrcbench.replay(record)
    with pytest.raises(mlrcbench.RecordError, match="another secret"):
        mlrcbench.replay(record, secret="your own secret")


def test_a_torn_record_is_read_up_to_the_tear(record: Path) -> None:
    """A crash costs at most the line that was being written."""
    path = record / "record.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    read = mlrcbench.read_record(record)
    assert len(read.steps) == len(ACTIONS)
    assert read.footer is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begin with a header"),
        ('{"kind": "step"}\n', "begin with a header"),
        ("nonsense\n", "line 1 is not a JSON object"),
        ('{"kind": "header", "version": 99}\n', "version 99"),
    ],
)
def test_what_is_not_a_record_is_refused(text: str, message: str, tmp_path: Path) -> None:
    """The error says why."""
    (tmp_path / "record.jsonl").write_text(text)
    with pytest.raises(mlrcbench.RecordError, match=message):
        mlrcbench.read_record(tmp_path)
    with pytest.raises(mlrcbench.RecordError, match="cannot be read"):
        mlrcbench.read_record(tmp_path / "nowhere")


def test_an_episode_that_was_not_finished_says_so(tmp_path: Path) -> None:
    """An episode can be closed or reset before its end."""
    with make(tmp_path) as env:
        env.reset(seed=0)
        first = env.record
        env.reset(seed=0)
        second = env.record
    assert first is not None
    assert second is not None
    endings = [mlrcbench.read_record(path).footer for path in (first, second)]
    assert [footer.ending for footer in endings if footer] == ["reset", "closed"]


_FULL_DISK = """
import resource, sys
from pathlib import Path
from mlrcbench.errors import SandboxError
from mlrcbench.storage.record import Footer, Recorder, StepRecord
recorder = Recorder(Path(sys.argv[1]) / "record")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
recorder.write_lines(b'{"kind": "header"}\\n')
try:
    recorder.write(StepRecord(1, "x" * 2000, "", 0.0))
except SandboxError as error:
    print(error)
recorder.write(StepRecord(2, "y", "", 0.0))
recorder.close(Footer("z" * 2000))
"""


def test_a_line_that_does_not_fit_is_removed(tmp_path: Path) -> None:
    """On a full disk the step fails as infrastructure; the line before it is never fused with a later one."""
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "cannot be written: File too large" in done.stdout
    lines = (tmp_path / "record" / "record.jsonl").read_text().splitlines()
    assert [json.loads(line).get("step") for line in lines] == [None, 2]


def test_a_forked_child_does_not_write(tmp_path: Path) -> None:
    """The record belongs to the process that opened it."""
    recorder = Recorder(tmp_path / "record")
    recorder.write_lines(b'{"kind": "header"}\n')
    if (child := os.fork()) == 0:
        recorder.close(Footer("by the child"))
        try:
            recorder.write(Footer("by the child"))
        except mlrcbench.SandboxError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    recorder.close(Footer("by the parent"))
    assert "by the child" not in (tmp_path / "record" / "record.jsonl").read_text()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The error says what to change."""
    (tmp_path / "file").touch()
    with pytest.raises(mlrcbench.DataError, match="set records="):
        Recorder(tmp_path / "file" / "record")


def test_a_record_that_is_deleted_ends_the_episode(env: mlrcbench.ResearchEnv) -> None:
    """The failure is that of the machine, and is not found only when somebody looks for the record."""
    env.step(Run("true"))
    assert env.record is not None
    shutil.rmtree(env.record)
    with pytest.raises(SandboxError, match="was deleted while it was being written"):
        env.step(Run("true"))
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(Run("true"))
