"""Temporary folders end with their process, however it ends, and with no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlrcbench.storage import temporary
from mlrcbench.storage.temporary import (
    PrivateFolder,
    make_scratch,
    remove_dead_scratch,
    remove_scratch,
    scratch,
)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, for one test alone; this process has no folder in it yet."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("mlrcbench.storage.temporary._own", None)
    return tmp_path


def other(place: Path, code: str) -> subprocess.Popen[str]:
    """Another process, which prints the folder that it has made."""
    code = f"import sys, time\nfrom mlrcbench.storage.temporary import *\n{code}"
    environ = {**os.environ, "TMPDIR": str(place)}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environ)


def test_folders_of_a_killed_process_are_removed(place: Path) -> None:
    """The folders of a living process are not touched."""
    with other(place, "print(make_scratch('episode'), flush=True); time.sleep(60)") as living:
        assert living.stdout is not None
        folder = Path(living.stdout.readline().strip())
        mine = make_scratch("episode")
        remove_dead_scratch()
        assert folder.is_dir()
        living.send_signal(signal.SIGKILL)
        living.wait()
        remove_dead_scratch()
        assert not folder.parent.exists()
        assert mine.is_dir()
        remove_scratch(mine)
    assert list(place.iterdir()) == []


def test_the_process_folder_is_removed_with_the_last_folder(place: Path) -> None:
    """A process that ends in order leaves nothing; a later folder can be made again."""
    for _ in range(2):
        first, second = make_scratch("a"), make_scratch("a")
        assert first != second
        assert first.parent == second.parent
        remove_scratch(first)
        assert second.is_dir()
        remove_scratch(second)
        assert list(place.iterdir()) == []


def test_a_forked_process_has_its_own_folder(place: Path) -> None:
    """It neither uses nor removes its parent's folder."""
    mine = make_scratch("a")
    child = os.fork()
    if child == 0:
        theirs = make_scratch("a")
        is_shared = theirs.parent == mine.parent
        remove_dead_scratch()
        remove_scratch(theirs)
        os._exit(int(is_shared))
    assert os.waitpid(child, 0)[1] == 0
    assert mine.is_dir()
    remove_scratch(mine)
    assert list(place.iterdir()) == []


def test_foreign_entries_are_left_alone(place: Path) -> None:
    """Links and files that only have the name of such a folder are not removed."""
    (place / "victim").mkdir()
    (place / "mlrcbench-process-link").symlink_to(place / "victim")
    (place / "mlrcbench-process-file").write_text("mine")
    remove_dead_scratch()
    assert (place / "victim").is_dir()
    assert (place / "mlrcbench-process-link").is_symlink()
    assert (place / "mlrcbench-process-file").read_text() == "mine"


def test_others_may_pass_but_not_list(place: Path) -> None:
    """The sandbox's user has to pass through these folders."""
    with scratch("a") as path:
        assert path.stat().st_mode & 0o777 == 0o711
        assert path.parent.stat().st_mode & 0o777 == 0o711
    assert list(place.iterdir()) == []


def test_threads_get_the_same_private_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host program may ask for the folder while another thread begins an episode in it."""

    def slowly(kind: str) -> Path:
        time.sleep(0.05)
        return make_scratch(kind)

    monkeypatch.setattr(temporary, "make_scratch", slowly)
    folder = PrivateFolder("episode")
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: folder.path, range(4)))
    assert len(paths) == 1
    folder.remove()
    assert list(place.iterdir()) == []


def test_a_private_folder_is_made_when_it_is_needed(place: Path) -> None:
    """A folder that was never used can be removed, too."""
    folder = PrivateFolder("episode")
    folder.remove()
    assert list(place.iterdir()) == []
    assert folder.path.is_dir()
    assert folder.path.parent.parent == place
    folder.remove()
    assert list(place.iterdir()) == []
