"""Harbor tasks: complete, accepted by Harbor's own loader where it is installed, and scored as we score."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench import cli
from mlrcbench.integrations.harbor import export_harbor


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """The template's task."""
    return export_harbor("_template", tmp_path / "task", instance=1)


# Other users may not be able to use this interpreter, so that all tests but one run as an ordinary user's.
PLAINLY = """
import os, runpy, sys
os.geteuid = lambda: 1
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _verify(task: Path, workspace: Path, logs: Path, *, plainly: bool = True) -> tuple[dict[str, float], str]:
    """What the verifier writes and says, without a container."""
    program = ["-c", PLAINLY] if plainly else []
    words = [
        sys.executable, "-I", *program, str(task / "tests" / "verify.py"), str(workspace), str(logs),
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        words, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads((logs / "reward.json").read_text("utf-8")), done.stdout + done.stderr


def _others_can_run_python() -> bool:
    """Whether a user without rights can, which takes root to find out."""
    if os.geteuid() != 0:
        return False
    try:
        done = subprocess.run([sys.executable, "-c", "import numpy"], user=65534, check=False, cwd="/")
    except PermissionError:
        return False
    return done.returncode == 0


@pytest.fixture
def workspace(exported: Path, tmp_path: Path) -> Path:
    """What an agent finds."""
    return Path(shutil.copytree(exported / "environment" / "workspace", tmp_path / "workspace"))


def test_only_the_verifier_has_answers(exported: Path) -> None:
    """Neither they, nor test inputs, nor the scorer lie in what the agent's container is built from."""
    instance = mlrcbench.get_competition("_template").instance(1)
    shown = [path.read_bytes() for path in (exported / "environment").rglob("*") if path.is_file()]
    for hidden in (instance.inputs("test") / "x.npy", instance.answers("test") / "y.npy"):
        assert hidden.read_bytes() not in shown
        assert any(hidden.read_bytes() == path.read_bytes() for path in (exported / "tests").rglob("*.npy"))
    assert not any(path.name == "scorer.py" for path in (exported / "environment").rglob("*"))


def test_the_reference_scores_as_in_an_episode(exported: Path, workspace: Path, tmp_path: Path) -> None:
    """The same figure to the last digit, by Harbor's verifier and by ours."""
    for path, text in mlrcbench.get_competition("_template").overlay("reference").items():
        (workspace / path).write_text(text)
    reward, _ = _verify(exported, workspace, tmp_path / "logs")
    with mlrcbench.Session(mlrcbench.make("_template", sandbox="process", records=tmp_path)) as session:
        session.begin(instance=1)
        for solved in (exported / "solution" / "reference").iterdir():
            session.call("write_file", {"path": solved.name, "text": solved.read_text("utf-8")})
        session.call("submit")
        assert session.test_score is not None
        assert reward["value"] == session.test_score["value"]
        assert reward["reward"] == session.test_score["improvement"]


def test_doing_nothing_scores_about_nothing(exported: Path, workspace: Path, tmp_path: Path) -> None:
    """The baseline."""
    reward, _ = _verify(exported, workspace, tmp_path / "logs")
    assert reward["valid"] == 1
    assert reward["reward"] == pytest.approx(0.0, abs=0.2)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("import time; time.sleep(60)", "longer than"),
        ("raise SystemExit(3)", "exit status 3"),
        ("import os; os._exit(0)", "predictions.npy is missing"),
        ("import os; os.symlink('/etc/passwd', 'artefacts/predictions.npy'); os._exit(0)", "predictions"),
    ],
)
def test_what_cannot_be_scored_gets_zero(
    exported: Path, workspace: Path, tmp_path: Path, method: str, words: str
) -> None:
    """With the reason in the verifier's output, and finite numbers, as Harbor wants them."""
    told = json.loads((exported / "tests" / "verify.json").read_text())
    (exported / "tests" / "verify.json").write_text(json.dumps({**told, "seconds": 5}))
    (workspace / "method.py").write_text(method)
    reward, said = _verify(exported, workspace, tmp_path / "logs")
    assert reward == {"reward": 0.0, "improvement": 0.0, "valid": 0}
    assert words in said


def test_what_is_protected_is_put_back(exported: Path, workspace: Path, tmp_path: Path) -> None:
    """An entry point, data or links of the agent's do not get into the evaluation."""
    (workspace / "main.py").unlink()
    (workspace / "main.py").mkdir()
    (workspace / "main.py" / "x").write_text("")
    shutil.rmtree(workspace / "data")
    (workspace / "data").symlink_to("/etc")
    (workspace / "inputs").write_text("mine")
    (workspace / "numpy.py").symlink_to("/etc/passwd")
    reward, said = _verify(exported, workspace, tmp_path / "logs")
    assert reward["valid"] == 1, said


@pytest.mark.skipif(not _others_can_run_python(), reason="needs root, and an interpreter that others can use")
def test_agent_code_cannot_read_the_answers(exported: Path, workspace: Path, tmp_path: Path) -> None:
    """It runs as another user, who may not enter the verifier's folder."""
    (exported / "tests").chmod(0o700)
    answers = exported / "tests" / "answers" / "y.npy"
    steal = f"import shutil; shutil.copy({str(answers)!r}, 'artefacts/predictions.npy'); raise SystemExit"
    (workspace / "method.py").write_text(steal)
    reward, said = _verify(exported, workspace, tmp_path / "logs", plainly=False)
    assert reward["valid"] == 0
    assert "PermissionError" in said


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Writes a folder once; its configuration names the instance."""
    words = ["export", "harbor", "_template", "--instance", "2", str(tmp_path / "task")]
    assert cli.main(words) == 0
    config = tomllib.loads((tmp_path / "task" / "task.toml").read_text())
    assert config["schema_version"] == "1.4"
    assert config["metadata"]["instance"] == 2
    assert cli.main(words) == 2
    assert "not empty" in capsys.readouterr().err


def test_harbors_loader_accepts_it(exported: Path) -> None:
    """Its own model of a task."""
    task = pytest.importorskip("harbor.models.task.task").Task(exported)
    assert task.name == "mlrcbench/template-mini-1"
    assert "## How it is judged" in task.instruction
    assert task.config.agent.user == "agent"
