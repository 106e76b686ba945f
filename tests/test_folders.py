"""Our folders may lie anywhere: each works the same, or one sentence says what to set."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlrcbench
from mlrcbench import Run
from mlrcbench.cli import main
from mlrcbench.errors import DataError, SandboxError
from mlrcbench.sandbox import fork_client, probe
from mlrcbench.sandbox.folders import MOVE_HOME, trial
from tests.conftest import body
from tests.sandbox.conftest import CONFINED

# Begins an episode in a mount namespace in which a small file system is full.
FULL = """
import contextlib, sys, tempfile
import mlrcbench
small, records, temporary = sys.argv[1:]
tempfile.tempdir = temporary
with open(f"{small}/filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
    while True:
        file.write(bytes(4096))
try:
    with mlrcbench.make("_template", secret="public", records=records) as env:
        env.reset(seed=0)
except mlrcbench.MlrcbenchError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def temporary_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Sets the temporary folder of this process: it has no folder in another one."""
    monkeypatch.setattr("mlrcbench.storage.temporary._own", None)
    yield monkeypatch
    monkeypatch.undo()


@pytest.fixture
def exposed() -> Iterator[Path]:
    """A folder in the interpreter's environment, which agent code may read."""
    if not os.access(sys.prefix, os.W_OK):
        pytest.skip("the interpreter's environment cannot be written to")
    path = Path(tempfile.mkdtemp(prefix="test-exposed-", dir=sys.prefix))
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("part", ["home", "instances", "records", "temporary"])
@pytest.mark.parametrize("tier", CONFINED)
def test_links(tmp_path: Path, temporary_folder: pytest.MonkeyPatch, part: str, tier: str) -> None:
    """Behind a symbolic link, commands find their data, evaluations succeed, and no path is shown."""
    if not probe.probe_tier(tier).works:
        pytest.skip(f"{tier} does not work here")
    places = {name: tmp_path / name for name in ("home", "records", "temporary")}
    places["instances"] = places["home"] / "instances"
    tmp_path.chmod(0o711)
    for name in ("home", "temporary"):
        if name != part:
            places[name].mkdir(mode=0o711)
            places[name].chmod(0o711)
    (tmp_path / "real").mkdir()
    (tmp_path / "real").chmod(0o711)
    places[part].symlink_to(tmp_path / "real")
    temporary_folder.setenv("MLRCBENCH_HOME", str(places["home"]))
    temporary_folder.setattr(tempfile, "tempdir", str(places["temporary"]))
    with mlrcbench.make("_template", secret="public", sandbox=tier, records=places["records"]) as env:
        env.reset(seed=0)
        assert "held-out points" in body(env, Run("python main.py"))
        assert str(tmp_path) not in body(env, Run("pwd; ls; python -c \"open('missing')\""))
        assert env.evaluate().outcome == "scored"


@pytest.mark.parametrize("part", ["home", "records", "temporary"])
@pytest.mark.parametrize("kind", ["auto", *CONFINED, "bubblewrap"])
def test_what_agents_may_read_holds_nothing_of_ours(
    tmp_path: Path, exposed: Path, temporary_folder: pytest.MonkeyPatch, part: str, kind: str
) -> None:
    """A folder of ours below the interpreter's environment, perhaps behind a link, refuses every sandbox."""
    (tmp_path / "link").symlink_to(exposed)
    place = str(tmp_path / "link" if part == "records" else exposed)
    records = place if part == "records" else str(tmp_path / "records")
    if part == "home":
        temporary_folder.setenv("MLRCBENCH_HOME", place)
    if part == "temporary":
        temporary_folder.setattr(tempfile, "tempdir", place)
    setting = {"home": "MLRCBENCH_HOME", "records": "records=", "temporary": "TMPDIR"}[part]
    with (
        mlrcbench.make("_template", secret="public", sandbox=kind, records=records) as env,
        pytest.raises(SandboxError, match=f"agent code may read; set {setting}"),
    ):
        env.reset(seed=0)


def test_without_confinement_any_place_will_do(exposed: Path, temporary_folder: pytest.MonkeyPatch) -> None:
    """Plain processes can read everything anyway."""
    temporary_folder.setenv("MLRCBENCH_HOME", str(exposed))
    with mlrcbench.make("_template", secret="public", sandbox="process") as env:
        env.reset(seed=0)


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o007])
@pytest.mark.parametrize("tier", CONFINED)
def test_umasks(tmp_path: Path, temporary_folder: pytest.MonkeyPatch, tier: str, umask: int) -> None:
    """Sandboxes work, outputs can be read, and files have the modes that they have elsewhere."""
    if not probe.probe_tier(tier).works:
        pytest.skip(f"{tier} does not work here")
    tmp_path.chmod(0o711)
    temporary_folder.setenv("MLRCBENCH_HOME", str(tmp_path / "home"))
    fork_client.forget_fork_server()  # the next one begins under the umask
    before = os.umask(umask)
    try:
        with mlrcbench.make("_template", secret="public", sandbox=tier, records=tmp_path / "records") as env:
            env.reset(seed=0)
            body(env, Run("seq 1 20000"))
            assert "20000" in body(env, Run("tail -n 1 outputs/step-0001.txt"))
            assert body(env, Run("stat -c %a method.py statement.md")).startswith("644\n644\n")
            assert env.evaluate().outcome == "scored"
            env.restore(env.snapshot())
            assert body(env, Run("stat -c %a method.py")).startswith("644\n")
    finally:
        os.umask(before)
        fork_client.forget_fork_server()


@pytest.mark.parametrize("place", ["/proc/nothing", "/dev/null/x"])
def test_places_that_cannot_be_written(
    tmp_path: Path, temporary_folder: pytest.MonkeyPatch, place: str
) -> None:
    """Each of the three folders is named with what to set."""
    mlrcbench.get_competition("_template").instance(0, secret="public")
    with (
        mlrcbench.make("_template", secret="public", records=place) as env,
        pytest.raises(DataError, match=rf"{place}.* cannot be used.*set records="),
    ):
        env.reset(seed=0)
    temporary_folder.setattr(tempfile, "tempdir", place)
    with (
        mlrcbench.make("_template", secret="public", records=tmp_path) as env,
        pytest.raises(SandboxError, match=rf"{place}.* cannot be used.*set TMPDIR"),
    ):
        env.reset(seed=0)
    temporary_folder.setenv("MLRCBENCH_HOME", place)
    for secret in (None, "public"):
        with (
            mlrcbench.make("_template", secret=secret) as env,
            pytest.raises(DataError, match=r"cannot be used.*set MLRCBENCH_HOME"),
        ):
            env.reset(seed=0)
    assert "set MLRCBENCH_HOME" in trial(Path(place), MOVE_HOME)


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A user number that no table knows, and no HOME: a sentence, also from `doctor`."""

    def unknown(_: int) -> None:
        raise KeyError

    for name in ("HOME", "MLRCBENCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(DataError, match="set MLRCBENCH_HOME"):
        mlrcbench.make("_template")
    assert main(["run", "_template"]) == 2
    assert "set MLRCBENCH_HOME" in capsys.readouterr().err
    assert main(["doctor"]) == 1
    assert "set MLRCBENCH_HOME" in capsys.readouterr().out.partition("PROBLEMS")[2]


@pytest.mark.parametrize("part", ["home", "temporary"])
def test_a_full_disk(tmp_path: Path, part: str) -> None:
    """The first folder on it that is needed is named; nothing is half made."""
    folders = {name: tmp_path / name for name in ("home", "records", "temporary")}
    for folder in folders.values():
        folder.mkdir()
    (tmp_path / "play.py").write_text(FULL)
    small = folders[part]
    command = shlex.join(map(str, (sys.executable, tmp_path / "play.py", small, *list(folders.values())[1:])))
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    done = subprocess.run(
        [*unshare, "sh", "-c", f"mount -t tmpfs -o size=64k none {small} && exec {command}"],
        env={**os.environ, "MLRCBENCH_HOME": str(folders["home"])},
        capture_output=True,
        text=True,
        check=True,
    )
    setting = {"home": "MLRCBENCH_HOME", "temporary": "TMPDIR"}[part]
    assert "No space left on device; free some space, or set " + setting in done.stdout
    assert done.stderr == ""


def test_doctor_tries_folders(
    tmp_path: Path, exposed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad places are named with what to set, and the exit status is 1; good ones are left as they were."""
    (tmp_path / "link").symlink_to(tmp_path / "made-later")
    monkeypatch.setenv("MLRCBENCH_HOME", str(tmp_path / "link" / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"{tmp_path}/made-later/home" in text
    assert "PROBLEMS" not in text
    assert max(len(line) for line in text.splitlines() if str(tmp_path) not in line) <= 100
    assert os.listdir(tmp_path) == ["link"]
    for home, temporary, sentence in (
        (str(exposed), str(tmp_path), "agent code may read; set MLRCBENCH_HOME"),
        ("/proc/nothing", str(tmp_path), "cannot be used: No such file or directory; set MLRCBENCH_HOME"),
        (str(tmp_path), "/proc/nothing", "TMPDIR names /proc/nothing, which is not a folder"),
    ):
        monkeypatch.setenv("MLRCBENCH_HOME", home)
        monkeypatch.setenv("TMPDIR", temporary)
        assert main(["doctor"]) == 1
        problems = " ".join(capsys.readouterr().out.partition("PROBLEMS")[2].split())
        assert sentence in problems


def test_records_are_private(tmp_path: Path, env: mlrcbench.ResearchEnv) -> None:
    """Other users can neither list nor read a record."""
    assert env.record is not None
    assert env.record.stat().st_mode & 0o777 == 0o700
