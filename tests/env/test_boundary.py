"""The boundary: whatever an agent left and whatever the machine did, only named exceptions come out."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import mlrcbench
from mlrcbench import EditFile, Evaluate, ReadFile, Run, Submit, WriteFile
from mlrcbench.errors import DataError, SandboxError, SnapshotError
from mlrcbench.storage import temporary
from mlrcbench.storage.record import Footer
from tests.conftest import SANDBOX, body
from tests.env.test_research_env import make

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def _fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "fill").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def _repeat(use: Callable[[], object]) -> None:
    for _ in range(50):
        use()


def _footer(env: mlrcbench.ResearchEnv) -> str:
    assert env.record is not None
    footer = mlrcbench.read_record(env.record).footer
    assert footer is not None
    return footer.ending


def _is_over(env: mlrcbench.ResearchEnv) -> bool:
    try:
        env.step("nonsense")
    except gymnasium.error.ResetNeeded:
        return True
    return False


@pytest.mark.parametrize(
    "command",
    [
        "rm statement.md; mkdir -p statement.md/x",
        "rm main.py; mkdir main.py; touch main.py/x; rm statement.md; mkfifo statement.md",
        "rm method.py; mkdir -p method.py/x",
        "python -c \"import os\nfor i in range(20): os.mkdir('n' * 250); os.chdir('n' * 250)\"",
        "chmod 444 .",
        "chmod 000 .",
        "mkdir -p shut/in; touch shut/in/x; chmod 000 shut/in shut",
        "rm data; python -c \"import os; os.symlink('n' * 4000, 'data')\"",
        "rm data; mkdir -p data/x; chmod 000 data",
        "rm data; mkfifo data; ln -s loop loop; mkfifo pipe inputs artefacts",
        "python -c \"import os; open(b'\\xff\\x1b', 'w'); os.mkdir(b'\\xfe' * 200)\"",
        "truncate -s 1T sparse",
        "cp /dev/null method.py; python -c \"open('method.py', 'w').write('import a' + '.a' * 40000)\"",
    ],
)
def test_no_workspace_makes_anything_raise(command: str, tmp_path: Path) -> None:
    """Every action is answered, and the episode ends with a score, or with a reason."""
    with make(tmp_path) as env:
        for action in (Evaluate(), Submit()):
            env.reset(seed=0)
            env.step(Run(command))
            for probe in (
                ReadFile("method.py"),
                WriteFile("a/b.txt", "x"),
                EditFile("method.py", "np", "np"),
            ):
                body(env, probe)
            *_, info = env.step(action)
            score = info["score" if isinstance(action, Evaluate) else "test_score"]
            assert score["outcome"] == "scored" or score["reason"]
        assert _footer(env) == "submitted"


def test_what_is_in_the_place_of_a_protected_file_does_not_count(env: mlrcbench.ResearchEnv) -> None:
    """It is the starter's in every evaluation, even if a folder with files lies there."""
    honest = env.evaluate().value
    env.step(Run("rm main.py statement.md; mkdir main.py; ln -s main.py statement.md; echo 1 > main.py/x"))
    assert env.evaluate().value == honest


def test_names_that_fit_below_one_folder_fit_below_another(tmp_path: Path) -> None:
    """The folders above a tree may be much longer for its copy."""
    records = tmp_path.joinpath(*["r" * 200] * 8)
    with make(tmp_path, records=records) as env:
        env.reset(seed=0)
        chain = "import os\nfor i in range(14): os.mkdir('n' * 240); os.chdir('n' * 240)\nopen('end', 'w')"
        env.step(Run(f'python -c "{chain}"'))
        assert env.evaluate().valid
        env.step(Submit())
        assert _footer(env) == "submitted"


@needs_root
def test_a_full_disk_below_the_records_is_the_machines_failure(small_disk: Path) -> None:
    """It ends the episode; the next one can begin when there is space."""
    with mlrcbench.make("_template", sandbox=SANDBOX, records=small_disk / "records") as env:
        env.reset(seed=0)
        _fill(small_disk)
        with pytest.raises(SandboxError, match="No space left"):
            _repeat(lambda: env.step(ReadFile("statement.md")))
        assert _is_over(env)
        with pytest.raises((SandboxError, DataError)):
            env.reset(seed=0)
        (small_disk / "fill").unlink()
        env.reset(seed=0)
        env.step(Submit())
        assert _footer(env) == "submitted"


@needs_root
@pytest.mark.parametrize("action", [Evaluate(), Submit(), WriteFile("a.txt", "x" * 100_000)])
def test_a_full_disk_below_temporary_folders_is_the_machines_failure(
    action: Any, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never scored as the agent's, and never shown as the agent's fault."""
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    monkeypatch.setattr(temporary, "_own", None)
    with make(tmp_path) as env:
        env.reset(seed=0)
        env.step(Run("true"))
        _fill(small_disk)
        with pytest.raises(SandboxError):
            env.step(action)
        assert _is_over(env)
        assert _footer(env).startswith("failed: ")
        assert env.record is not None
        assert not mlrcbench.read_record(env.record).evaluations
        (small_disk / "fill").unlink()
        env.reset(seed=0)
        assert env.evaluate().valid
    monkeypatch.setattr(temporary, "_own", None)


def _remove_cache(env: mlrcbench.ResearchEnv) -> None:
    shutil.rmtree(env._keeper.require().instance.root)


def _remove_workspace(env: mlrcbench.ResearchEnv) -> None:
    shutil.rmtree(env.workspace.root)


def _remove_folder(env: mlrcbench.ResearchEnv) -> None:
    shutil.rmtree(env.workspace.root.parent)


@pytest.mark.parametrize("lose", [_remove_cache, _remove_workspace, _remove_folder])
@pytest.mark.parametrize(
    "use",
    [
        lambda env: env.step(ReadFile("data/train.npy")),
        lambda env: env.step(ReadFile("method.py")),
        lambda env: env.step(WriteFile("a.txt", "x")),
        lambda env: env.step(Run("true")),
        lambda env: env.step(Evaluate()),
        lambda env: env.step(Submit()),
        lambda env: env.evaluate("test"),
    ],
    ids=range(7),
)
def test_what_disappears_is_the_machines_failure(
    use: Callable[[mlrcbench.ResearchEnv], object],
    lose: Callable[[mlrcbench.ResearchEnv], None],
    tmp_path: Path,
    fresh: Path,
) -> None:
    """The cache, the workspace, or everything of the episode; a reset finds or makes what it needs."""
    with make(tmp_path) as env:
        env.reset(seed=0)
        lose(env)
        try:
            use(env)
        except SandboxError:
            assert _is_over(env)
            assert _footer(env).startswith("failed: ")
        env.reset(seed=0)
        assert env.evaluate().valid


def test_a_restore_lays_out_a_workspace_that_disappeared(env: mlrcbench.ResearchEnv) -> None:
    """With a fresh sandbox, in which commands run."""
    env.step(WriteFile("kept.txt", "kept\n"))
    snapshot = env.snapshot()
    _remove_folder(env)
    env.restore(snapshot)
    assert "kept\n" in body(env, Run("cat kept.txt"))


@pytest.mark.parametrize(
    "use",
    [
        lambda env: env.step(Run("true")),
        lambda env: env.step(Evaluate()),
        lambda env: env.evaluate(),
        lambda env: env.snapshot(),
        lambda env: env.fork(),
        lambda env: env.warm_up(),
    ],
    ids=["step", "evaluate action", "evaluate", "snapshot", "fork", "warm_up"],
)
@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), ZeroDivisionError("0"), MemoryError()])
def test_what_nobody_foresaw_ends_the_episode(
    use: Callable[[mlrcbench.ResearchEnv], object],
    error: Exception,
    env: mlrcbench.ResearchEnv,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It becomes a named exception, with its cause; the record and the log say what it was."""

    def fail(*_: object, **__: object) -> None:
        raise error

    episode = env._keeper.require()
    with monkeypatch.context() as patch:
        for owner, name in (
            (type(episode), "perform"),
            (type(episode), "evaluate_for_host"),
            (type(episode), "capture"),
            (type(episode.workbench.sandbox), "start"),
        ):
            patch.setattr(owner, name, fail)
        with caplog.at_level(logging.ERROR, "mlrcbench"), pytest.raises(SandboxError) as caught:
            use(env)
    assert caught.value.__cause__ is error
    assert any(entry.exc_info and entry.exc_info[1] is error for entry in caplog.records)
    assert _is_over(env)
    assert _footer(env) == f"failed: {caught.value}"
    env.reset(seed=0)
    assert "[exit status 0]" in body(env, Run("true"))


def test_a_failure_while_an_episode_ends_is_logged(
    env: mlrcbench.ResearchEnv, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The footer cannot be written, nor the sandbox closed, nor the files removed: no result is lost."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "I/O error")

    episode = env._keeper.require()
    with monkeypatch.context() as patch:
        for part, name in ((episode.recorder, "close"), (episode.workbench.sandbox, "close")):
            patch.setattr(part, name, fail)
        patch.setattr(episode.files, "remove", fail)
        *_, terminated, _, info = env.step(Submit())
    episode.workbench.sandbox.close()
    episode.recorder.close(Footer("closed"))
    assert terminated
    assert info["test_score"]["value"] is not None
    assert len(caplog.records) == 3
    env.reset(seed=0)  # although the files of the last episode are still there
    assert env.evaluate().valid


def test_a_reset_whose_record_cannot_be_written_says_so(tmp_path: Path) -> None:
    """And works once it can."""
    (tmp_path / "records").write_text("a file")
    with make(tmp_path) as env:
        with pytest.raises(DataError, match="records="):
            env.reset(seed=0)
        (tmp_path / "records").unlink()
        env.reset(seed=0)


def test_restore_takes_a_snapshot(env: mlrcbench.ResearchEnv) -> None:
    """Anything else is named, and the episode continues."""
    with pytest.raises(SnapshotError, match="load_snapshot"):
        env.restore("snapshot.mlrc")  # type: ignore[arg-type]
    assert not _is_over(env)


def test_one_episode_does_not_change_the_files_of_another(tmp_path: Path, fresh: Path) -> None:
    """Where a sandbox lets `chmod` and `touch` reach the cache; a job may even do it during an evaluation."""
    with (
        make(tmp_path, sandbox="process", instances=[0]) as one,
        make(tmp_path, sandbox="process", instances=[0]) as other,
    ):
        other.reset(seed=0)
        one.reset(seed=0)
        root = one._keeper.require().instance.root
        before = {path: _seal_of(path) for path in (root, *root.rglob("*"))}
        spoil = (
            "touch -d 2020-01-01 data/* data/. data/../private/*/inputs/*; chmod 000 data/* data/. "
            "data/../private/*/answers/* data/../private/*/* data/../private data/../manifest.json data/.."
        )
        one.step(Run(spoil))
        assert _seal_of(root) != before[root]
        assert other.step(Evaluate())[4]["score"]["outcome"] == "scored"
        assert {path: _seal_of(path) for path in before if "test" not in path.parts} == {
            path: seal for path, seal in before.items() if "test" not in path.parts
        }
        other.step(
            WriteFile(
                "method.py", f"import os; os.system({spoil!r})\ndef predict(train, x):\n    return x * 0\n"
            )
        )
        other.step(Evaluate())
        one.reset(seed=0)
        assert {path: _seal_of(path) for path in before} == before


def _seal_of(path: Path) -> tuple[int, int]:
    info = path.lstat()
    return stat.S_IMODE(info.st_mode), 0 if path.name.count(
        "-"
    ) or "answers" in path.parts else info.st_mtime_ns


def test_an_instance_that_cannot_be_repaired_says_what_to_do(tmp_path: Path, fresh: Path) -> None:
    """The error names the folder to delete."""
    with make(tmp_path) as env:
        env.reset(seed=0)
        root = env._keeper.require().instance.root
        next(path for path in (root / "public").rglob("*") if path.is_file()).unlink()
        with pytest.raises(DataError, match="delete"):
            env.reset(seed=0)
        shutil.rmtree(root)
        env.reset(seed=0)
