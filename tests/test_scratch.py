"""Temporary folders end with their process, however it ends, and with no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mlrcbench.scratch import PrivateFolder, make_scratch, remove_dead_scratch, remove_scratch, scratch


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the system's that no other test uses, and no folder of this process yet."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("mlrcbench.scratch._own", None)
    return tmp_path


def other(place: Path, code: str) -> subprocess.Popen[str]:
    """Another process, which prints the folder it has made."""
    code = f"import sys, time\nfrom mlrcbench.scratch import *\n{code}"
    environ = {**os.environ, "TMPDIR": str(place)}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environ)


def test_a_killed_process_is_tidied_up_after(place: Path) -> None:
    """And nothing of one that lives is touched."""
    with other(place, "print(make_scratch('episode'), flush=True); time.sleep(60)") as living:
        assert living.stdout is not None
        made = Path(living.stdout.readline().strip())
        mine = make_scratch("episode")
        remove_dead_scratch()
        assert made.is_dir()
        living.send_signal(signal.SIGKILL)
        living.wait()
        remove_dead_scratch()
        assert not made.parent.exists()
        assert mine.is_dir()
        remove_scratch(mine)
    assert list(place.iterdir()) == []


def test_the_last_folder_takes_the_processs_own_along(place: Path) -> None:
    """Nothing is left of an orderly process; a later folder is made anew."""
    for _ in range(2):
        first, second = make_scratch("a"), make_scratch("a")
        assert first != second
        assert first.parent == second.parent
        remove_scratch(first)
        assert second.is_dir()
        remove_scratch(second)
        assert list(place.iterdir()) == []


def test_a_forked_process_has_a_folder_of_its_own(place: Path) -> None:
    """It neither uses nor removes its parent's."""
    mine = make_scratch("a")
    child = os.fork()
    if child == 0:
        theirs = make_scratch("a")
        alike = theirs.parent == mine.parent
        remove_dead_scratch()
        remove_scratch(theirs)
        os._exit(int(alike))
    assert os.waitpid(child, 0)[1] == 0
    assert mine.is_dir()
    remove_scratch(mine)
    assert list(place.iterdir()) == []


def test_foreign_entries_are_left_alone(place: Path) -> None:
    """Links and files that only look like ours, whoever made them."""
    (place / "victim").mkdir()
    (place / "mlrcbench-process-link").symlink_to(place / "victim")
    (place / "mlrcbench-process-file").write_text("mine")
    remove_dead_scratch()
    assert (place / "victim").is_dir()
    assert (place / "mlrcbench-process-link").is_symlink()
    assert (place / "mlrcbench-process-file").read_text() == "mine"


def test_others_may_pass_but_not_list(place: Path) -> None:
    """As the sandbox's user has to."""
    with scratch("a") as path:
        assert path.stat().st_mode & 0o777 == 0o711
        assert path.parent.stat().st_mode & 0o777 == 0o711
    assert list(place.iterdir()) == []


def test_a_private_folder_is_made_when_it_is_needed(place: Path) -> None:
    """And removing it without having used it is fine."""
    folder = PrivateFolder("episode")
    folder.remove()
    assert list(place.iterdir()) == []
    assert folder.path.is_dir()
    assert folder.path.parent.parent == place
    folder.remove()
    assert list(place.iterdir()) == []
