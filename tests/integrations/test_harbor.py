"""Harbor tasks: complete, accepted by Harbor's own loader if installed, and scored as in our episodes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench.cli import main
from mlrcbench.integrations.harbor import _install, export_harbor


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """The template's task."""
    return export_harbor("_template", tmp_path / "task", instance=1)


# Other users may be unable to use this interpreter, so all tests but one run as for an ordinary user.
PLAINLY = """
import os, runpy, sys
os.geteuid = lambda: 1
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _verify(task: Path, workspace: Path, logs: Path, *, plainly: bool = True) -> tuple[dict[str, float], str]:
    """What the verifier writes and prints, without a container."""
    program = ["-c", PLAINLY] if plainly else []
    command = [
        sys.executable, "-I", *program, str(task / "tests" / "verify.py"), str(workspace), str(logs),
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads((logs / "reward.json").read_text("utf-8")), done.stdout + done.stderr


def _change(task: Path, **settings: object) -> None:
    """Change the settings of a task's verifier."""
    path = task / "tests" / "verify.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def _others_can_run_python() -> bool:
    """Whether an unprivileged user can use this interpreter, which only root can find out."""
    if os.geteuid() != 0:
        return False
    try:
        done = subprocess.run([sys.executable, "-c", "import numpy"], user=65534, check=False, cwd="/")
    except PermissionError:
        return False
    return done.returncode == 0


@pytest.fixture
def workspace(exported: Path, tmp_path: Path) -> Path:
    """The workspace of the task's image."""
    return Path(shutil.copytree(exported / "environment" / "workspace", tmp_path / "workspace"))


def test_only_the_verifier_has_answers(exported: Path) -> None:
    """The files for the agent's container have no answers, no test inputs and no scorer."""
    instance = mlrcbench.get_competition("_template").instance(1)
    visible = [path.read_bytes() for path in (exported / "environment").rglob("*") if path.is_file()]
    for hidden in (instance.inputs("test") / "x.npy", instance.answers("test") / "y.npy"):
        assert hidden.read_bytes() not in visible
        assert any(hidden.read_bytes() == path.read_bytes() for path in (exported / "tests").rglob("*.npy"))
    assert not any(path.name == "scorer.py" for path in (exported / "environment").rglob("*"))


def test_the_reference_scores_as_in_an_episode(exported: Path, workspace: Path, tmp_path: Path) -> None:
    """Harbor's verifier and our evaluation give the same score to the last digit."""
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
    """An unchanged workspace scores as the baseline."""
    reward, _ = _verify(exported, workspace, tmp_path / "logs")
    assert reward["valid"] == 1
    assert reward["reward"] == pytest.approx(0.0, abs=0.2)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("import time; time.sleep(60)", "longer than"),
        ("raise SystemExit(3)", "exit status 3"),
        ("import os; os._exit(0)", "predictions.npy is missing"),
        ("import os; os.symlink('/etc/passwd', 'artefacts/predictions.npy'); os._exit(0)", "predictions"),
    ],
)
def test_what_cannot_be_scored_gets_zero(
    exported: Path, workspace: Path, tmp_path: Path, method: str, message: str
) -> None:
    """The verifier prints the reason, and writes finite numbers, as Harbor expects them."""
    _change(exported, seconds=5)
    (workspace / "method.py").write_text(method)
    reward, output = _verify(exported, workspace, tmp_path / "logs")
    assert reward == {"reward": 0.0, "improvement": 0.0, "valid": 0}
    assert message in output


def test_only_carried_files_are_scored(exported: Path, workspace: Path, tmp_path: Path) -> None:
    """Where a card names the files that an evaluation takes, others stay behind; their size is bounded."""
    _change(exported, carried=["*.py"], workspace_bytes=2000)
    (workspace / "parts").mkdir()
    (workspace / "parts" / "help.py").write_text("")
    (workspace / "parts" / "weights.npy").write_text("learnt before" * 1000)
    seen = (
        "raise SystemExit(sorted(name for _, _, names in __import__('os').walk('parts') for name in names))"
    )
    (workspace / "method.py").write_text(seen)
    _, output = _verify(exported, workspace, tmp_path / "logs")
    assert "['help.py']" in output
    (workspace / "method.py").write_text("#" * 2001)
    _, output = _verify(exported, workspace, tmp_path / "more")
    assert "too large together" in output


def test_protected_files_are_restored(exported: Path, workspace: Path, tmp_path: Path) -> None:
    """The agent's entry point, data and links do not get into the evaluation."""
    (workspace / "main.py").unlink()
    (workspace / "main.py").mkdir()
    (workspace / "main.py" / "x").write_text("")
    shutil.rmtree(workspace / "data")
    (workspace / "data").symlink_to("/etc")
    (workspace / "inputs").write_text("mine")
    (workspace / "numpy.py").symlink_to("/etc/passwd")
    reward, output = _verify(exported, workspace, tmp_path / "logs")
    assert reward["valid"] == 1, output


@pytest.mark.skipif(not _others_can_run_python(), reason="needs root, and an interpreter that others can use")
def test_agent_code_cannot_read_the_answers(exported: Path, workspace: Path, tmp_path: Path) -> None:
    """It runs as another user, who may not enter the verifier's folder."""
    (exported / "tests").chmod(0o700)
    answers = exported / "tests" / "answers" / "y.npy"
    steal = f"import shutil; shutil.copy({str(answers)!r}, 'artefacts/predictions.npy'); raise SystemExit"
    (workspace / "method.py").write_text(steal)
    reward, output = _verify(exported, workspace, tmp_path / "logs", plainly=False)
    assert reward["valid"] == 0
    assert "PermissionError" in output


# Its threads swap files for links and back for as long as they live; the main thread has ended, as if the
# process were over. argv: the workspace, the file that the links name.
SWAPPER = """
import ctypes, os, sys, threading
workspace, secret = sys.argv[1:]
libc = ctypes.CDLL(None)

def swap(number):
    plain, link = (f"{workspace}/{name}-{number}".encode() for name in ("work", ".link"))
    with open(plain, "w") as file:
        file.write("garbage")
    os.symlink(secret, link)
    while True:
        libc.renameat2(-100, plain, -100, link, 2)  # exchanges them

threads = [threading.Thread(target=swap, args=(number,)) for number in range(30)]
for thread in threads:
    thread.start()
open(f"{workspace}/ready", "w").close()
libc.syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""
# An entry point that takes what it has got, if anything.
TAKE = "for name in work-*; do grep -q garbage $name || cp $name artefacts/predictions.npy; done"
AGENT = 60_321


def _python_for_all() -> str | None:
    """An interpreter that every user can use."""
    paths = (shutil.which("python3", path=folder) for folder in ("/usr/bin", "/usr/local/bin"))
    return next((path for path in paths if path and os.stat(os.path.realpath(path)).st_mode & 0o001), None)


@contextmanager
def _swapping(python: str, workspace: Path, secret: Path, **user: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [python, "-I", "-c", SWAPPER, str(workspace), str(secret)]
    with subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL, **user) as process:  # type: ignore[call-overload]
        while not (workspace / "ready").exists():
            time.sleep(0.01)
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(
    os.geteuid() != 0 or not _python_for_all(), reason="needs root, and a Python for all users"
)
def test_a_process_without_a_main_thread_gains_nothing(open_folder: Path) -> None:
    """It looks as if it had ended; it is killed with its threads, before anything is copied."""
    task = export_harbor("_template", open_folder / "task", instance=1)
    (task / "tests").chmod(0o700)
    _change(task, entry_point=TAKE)
    workspace = Path(shutil.copytree(task / "environment" / "workspace", open_folder / "workspace"))
    os.chown(workspace, AGENT, AGENT)
    answers = task / "tests" / "answers" / "y.npy"
    python = _python_for_all()
    assert python is not None
    with _swapping(python, workspace, answers, user=AGENT, group=AGENT) as process:
        reward, output = _verify(task, workspace, open_folder / "logs", plainly=False)
        assert (reward["valid"], reward["reward"]) == (0, 0.0), output
        assert process.wait(10) == -9, "it has survived the verification"


def test_links_are_not_followed_whatever_changes_meanwhile(
    exported: Path, workspace: Path, tmp_path: Path
) -> None:
    """Not even where the agent's processes cannot be ended, as with an ordinary user."""
    _change(exported, entry_point=TAKE)
    answers = exported / "tests" / "answers" / "y.npy"
    with _swapping(sys.executable, workspace, answers):
        for attempt in range(3):  # a race, which the attacker wins now and then
            reward, output = _verify(exported, workspace, tmp_path / f"logs-{attempt}")
            assert reward["valid"] == 0, output


@pytest.mark.parametrize("kind", ["file", "link", "folder", "pipe"])
def test_a_reward_that_the_agent_wrote_does_not_count(
    exported: Path, workspace: Path, tmp_path: Path, kind: str
) -> None:
    """Whatever stands where the reward is read makes way for the verifier's."""
    logs, other = tmp_path / "logs", tmp_path / "other"
    logs.mkdir()
    other.write_text("mine")
    for name in ("reward.json", "reward.txt"):
        path = logs / name
        if kind == "file":
            path.write_text("1000")
        elif kind == "link":
            path.symlink_to(other)
        elif kind == "folder":
            (path / "deep").mkdir(parents=True)
        else:
            os.mkfifo(path)
    reward, _ = _verify(exported, workspace, logs)
    assert reward["reward"] == pytest.approx(0.0, abs=0.2)
    assert other.read_text() == "mine"
    assert [path.name for path in logs.glob("reward*")] == ["reward.json"]


def test_a_monstrous_workspace_scores_nothing(exported: Path, workspace: Path, tmp_path: Path) -> None:
    """Neither depth, nor number, nor long paths end the verifier without a reward."""
    deep = os.open(workspace, os.O_RDONLY)
    for _ in range(100):
        os.mkdir("d" * 200, dir_fd=deep)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)
    reward, output = _verify(exported, workspace, tmp_path / "logs")
    assert reward == {"reward": 0.0, "improvement": 0.0, "valid": 0}
    assert "within each other" in output
    subprocess.run(["rm", "-rf", str(workspace / ("d" * 200))], check=True)
    (workspace / "many").mkdir()
    for number in range(50):
        (workspace / "many" / str(number)).mkdir()
    _change(exported, workspace_entries=50)
    reward, output = _verify(exported, workspace, tmp_path / "logs")
    assert reward == {"reward": 0.0, "improvement": 0.0, "valid": 0}
    assert "too many files and folders" in output


def test_long_paths_and_strange_names_are_scored(exported: Path, workspace: Path, tmp_path: Path) -> None:
    """A tree within the limits is copied, and what the entry point leaves does not matter."""
    deep = os.open(workspace, os.O_RDONLY)
    for _ in range(60):
        os.mkdir(b"\xff" * 200, dir_fd=deep)
        inner = os.open(b"\xff" * 200, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(os.open("file", os.O_CREAT, dir_fd=deep))
    os.close(deep)
    nest = "import os\nfor _ in range(1500):\n    os.mkdir('n'); os.chdir('n')\n"
    method = (workspace / "method.py").read_text()
    (workspace / "method.py").write_text(f"import os\nhome = os.getcwd()\n{nest}os.chdir(home)\n{method}")
    reward, output = _verify(exported, workspace, tmp_path / "logs")
    assert reward["valid"] == 1, output
    subprocess.run(["rm", "-rf", str(tmp_path)], check=True)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It writes a folder once; the task's configuration names the instance."""
    command = ["export", "harbor", "_template", "--instance", "2", str(tmp_path / "task")]
    assert main(command) == 0
    config = tomllib.loads((tmp_path / "task" / "task.toml").read_text())
    assert config["schema_version"] == "1.4"
    assert config["metadata"]["instance"] == 2
    assert main(command) == 2
    assert "not empty" in capsys.readouterr().err


def test_a_dataset_has_a_task_for_each_instance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its manifest names them, with the digests that Harbor computes; Harbor's linter has nothing to say."""
    folder = tmp_path / "dataset"
    command = ["export", "harbor", "_template", str(folder), "--instance", "3", "--instances", "2"]
    assert main(command) == 0
    manifest = tomllib.loads((folder / "dataset.toml").read_text())
    tasks = sorted(path for path in folder.iterdir() if path.is_dir())
    assert [path.name for path in tasks] == ["template-mini-3", "template-mini-4"]
    assert [one["name"] for one in manifest["tasks"]] == [f"mlrcbench/{path.name}" for path in tasks]
    assert main(command) == 2
    assert "not empty" in capsys.readouterr().err
    packager = pytest.importorskip("harbor.publisher.packager").Packager
    read = pytest.importorskip("harbor.models.dataset.manifest").DatasetManifest.from_toml(
        (folder / "dataset.toml").read_text()
    )
    assert [one.digest for one in read.tasks] == [
        f"sha256:{packager.compute_content_hash(path)[0]}" for path in tasks
    ]
    linter = [str(Path(sys.executable).with_name("harbor")), "lint", *map(str, tasks)]
    done = subprocess.run(linter, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr


def test_images_have_pinned_packages(tmp_path: Path) -> None:
    """A competition that needs no PyTorch has none; others take the build of the index that is given."""
    plain = export_harbor("_template", tmp_path / "plain")
    for folder in ("environment", "tests"):
        text = (plain / folder / "Dockerfile").read_text()
        assert "torch" not in text
        assert all("==" in word for word in text.partition("--no-cache-dir")[2].splitlines()[0].split())
    pytest.importorskip("torch")  # whose version is the one that is here
    source = tmp_path / "own"
    shutil.copytree(mlrcbench.get_competition("_template").folder, source)
    (source / "starter" / "more.py").write_text("import os\n\n\ndef train():\n    import torch\n")
    text = _install(mlrcbench.Competition(source), "https://index.test/cpu")
    assert "--index-url https://index.test/cpu torch==" in text


def test_harbors_loader_accepts_it(exported: Path) -> None:
    """Harbor's own model of a task reads the folder."""
    task = pytest.importorskip("harbor.models.task.task").Task(exported)
    assert task.name == "mlrcbench/template-mini-1"
    assert "## How it is judged" in task.instruction
    assert task.config.agent.user == "agent"
    modes = pytest.importorskip("harbor.models.task.verifier_mode")
    definition = modes.resolve_verifier_environment_definition(task.config, task.paths)
    assert definition.bundled_tests, "the verifier's own image has its files"
    assert definition.directory == task.paths.tests_dir
